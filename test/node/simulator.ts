import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ControlPlane } from "../cluster/index.ts";
import { LabError, tempDir } from "../lab/index.ts";
import { Api } from "./api.ts";
import { Heartbeat } from "./heartbeat.ts";
import { NodeHost } from "./host.ts";
import type { Image, Registry } from "./image.ts";
import { defaultRegistry } from "./image.ts";
import { Informer } from "./informer.ts";
import { type Pod, nameOf } from "./pod.ts";
import { Provisioner } from "./provisioner.ts";
import { PodWorker } from "./worker.ts";

export interface SimulatorOptions {
  /** Names of the nodes; default one, `node-a`. */
  readonly nodes?: readonly string[];
}

interface SimulatedNode {
  readonly host: NodeHost;
  readonly heart: Heartbeat;
}

/**
 * Nodes of a test's cluster: pods that the scheduler binds to them run as processes of this machine, with the mounts, environment
 * and user that their specs ask for. Everything ends with the process that started it. The control plane needs controllers and scheduler.
 */
export class NodeSimulator {
  readonly dir: string;
  readonly api: Api;
  readonly volumes: Provisioner;
  readonly #nodes: Map<string, SimulatedNode> = new Map();
  readonly #workers: Map<string, PodWorker> = new Map();
  readonly #images: Map<string, Image | undefined> = new Map();
  readonly #pods: Informer<Pod>;
  readonly #env: ReadonlyMap<string, string>;
  /** 127.x.0.0: the addresses of this simulator's pods. */
  readonly #network: string = `127.${randomInt(16, 255)}`;
  /** Starts anywhere: another simulator may have drawn the same network. */
  #addresses: number = randomInt(0, 60_000);
  #slowness = 0;

  private constructor(plane: ControlPlane, api: Api) {
    this.dir = tempDir("node");
    this.api = api;
    this.volumes = new Provisioner(api, join(this.dir, "volumes"), () => [...this.#nodes.keys()]);
    this.#env = new Map([["KUBERNETES_SERVICE_HOST", "127.0.0.1"], ["KUBERNETES_SERVICE_PORT", String(plane.layout.ports.api)]]); // prettier-ignore
    this.#pods = new Informer<Pod>(api, "/api/v1/pods", (pod, gone) => this.#hear(pod, gone));
  }

  /** Registers the nodes and waits until the scheduler may use them. @throws LabError */
  static async start(plane: ControlPlane, { nodes = ["node-a"] }: SimulatorOptions = {}): Promise<NodeSimulator> {
    const simulator = new NodeSimulator(plane, await Api.as(plane, "lab-nodes"));
    try {
      await simulator.volumes.start();
      for (const name of nodes) await simulator.addNode(name);
      return simulator;
    } catch (cause) {
      await simulator.stop();
      throw cause;
    }
  }

  /** Another node, or a new one in the place of one that is gone. @throws LabError */
  async addNode(name: string): Promise<void> {
    const host = await NodeHost.start(name, this.dir);
    const heart = new Heartbeat(this.api, name);
    this.#nodes.set(name, { host, heart });
    await heart.start();
    const deadline = Date.now() + 60_000;
    for (;;) {
      const { spec } = await this.api.get<{ spec: { taints?: unknown[] } }>(`/api/v1/nodes/${name}`);
      if ((spec.taints ?? []).length === 0) return;
      if (Date.now() > deadline) throw new LabError(`node ${name} stays tainted: is the controller manager running?`);
      await sleep(100);
    }
  }

  /** A node's machine. @throws LabError */
  host(name: string): NodeHost {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new LabError(`no node ${name}`);
    return node.host;
  }

  /** What the images of this name are from now on; undefined: no registry has them, until this is called again. */
  image(reference: string, image: Image | undefined): void {
    this.#images.set(reference, image);
  }

  /** Every container takes this long to start from now on. */
  slowStart(ms: number): void {
    this.#slowness = ms;
  }

  /** What the pod wrote, also when it is gone. @throws LabError */
  log(pod: Pod): string {
    return readFileSync(this.#logFile(pod), "utf8");
  }

  /** Runs a command in a running pod. @throws LabError */
  async exec(pod: Pod, command: readonly string[], input?: string): Promise<string> {
    const { container } = this.#worker(pod);
    if (container === undefined) throw new LabError(`pod ${nameOf(pod)} does not run`);
    return await container.exec(command, input);
  }

  /** The pid, on this machine, of a running pod's first process. @throws LabError */
  pid(pod: Pod): number {
    const { container } = this.#worker(pod);
    if (container === undefined) throw new LabError(`pod ${nameOf(pod)} does not run`);
    return container.pid();
  }

  /** The pod's directory below its node's kubelet directory. @throws LabError */
  podDir(pod: Pod): string {
    return this.#worker(pod).dir;
  }

  /** The node runs out of something, and the kubelet ends this pod. */
  evict(pod: Pod): void {
    const message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 0.";
    this.#worker(pod).fail({ phase: "Failed", reason: "Evicted", message, disrupted: "TerminationByKubelet" });
  }

  /** The kernel ends the pod's container for its memory. */
  oomKill(pod: Pod): void {
    this.#worker(pod).oomKill();
  }

  /** Power cut: everything on the node is gone, and nobody hears of it any more. The Node object stays until `removeNode`. */
  async nodeGone(name: string): Promise<void> {
    const { host, heart } = this.#nodes.get(name) ?? {};
    if (host === undefined) throw new LabError(`no node ${name}`);
    this.#nodes.delete(name);
    await heart?.stop();
    const lost = [...this.#workers.values()].filter(({ pod }) => pod.spec.nodeName === name);
    const abandoned = lost.map((worker) => worker.abandon());
    await host.stop();
    await Promise.all(abandoned);
    for (const { pod } of lost) this.#workers.delete(pod.metadata.uid);
  }

  /** Takes the Node object away, as an administrator does with a machine that will not come back. @throws ApiError */
  async removeNode(name: string): Promise<void> {
    if (this.#nodes.has(name)) await this.nodeGone(name);
    await this.api.remove(`/api/v1/nodes/${name}`);
  }

  /** Ends everything; safe to call again. */
  async stop(): Promise<void> {
    await this.#pods.stop();
    await Promise.all([...this.#nodes.keys()].map((name) => this.nodeGone(name)));
    await this.volumes.stop();
    this.api.close();
  }

  #worker(pod: Pod): PodWorker {
    const worker = this.#workers.get(pod.metadata.uid);
    if (worker === undefined) throw new LabError(`no node here has pod ${nameOf(pod)}`);
    return worker;
  }

  #hear(pod: Pod, gone: boolean): void {
    const { uid } = pod.metadata;
    const known = this.#workers.get(uid);
    if (known !== undefined) {
      // An object that vanished was deleted by force.
      known.update(gone ? { ...pod, metadata: { ...pod.metadata, deletionTimestamp: "now", deletionGracePeriodSeconds: 0 } } : pod);
      return;
    }
    const node = this.#nodes.get(pod.spec.nodeName ?? "");
    const isOver = pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded";
    if (gone || node === undefined || isOver) return;
    const worker = this.#work(pod, node.host);
    this.#workers.set(uid, worker);
    worker.update(pod);
    void worker.done
      .catch((cause: unknown) => process.emitWarning(`pod ${nameOf(pod)}: ${String(cause)}`))
      .finally(() => this.#workers.delete(uid));
  }

  #work(pod: Pod, host: NodeHost): PodWorker {
    this.#addresses += 1;
    return new PodWorker(pod, {
      api: this.api,
      host,
      registry: this.#registry,
      podIP: this.#address(this.#addresses),
      log: this.#logFile(pod),
      slowness: () => this.#slowness,
      env: this.#env,
    });
  }

  #address(nth: number): string {
    return `${this.#network}.${Math.floor(nth / 254) % 256}.${(nth % 254) + 1}`;
  }

  readonly #registry: Registry = (reference) => (this.#images.has(reference) ? this.#images.get(reference) : defaultRegistry(reference));

  #logFile({ metadata }: Pod): string {
    return join(this.dir, "logs", `${metadata.namespace}_${metadata.name}_${metadata.uid}.log`);
  }
}
