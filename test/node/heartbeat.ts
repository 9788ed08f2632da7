import { setTimeout as sleep } from "node:timers/promises";
import type { Api } from "./api.ts";
import { ignore } from "./api.ts";
import { now } from "./container.ts";

const NODES = "/api/v1/nodes";
const LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const BEAT_MS = 2000;

/** A Node object that says it is ready, for as long as its heart beats. */
export class Heartbeat {
  readonly #api: Api;
  readonly #name: string;
  readonly #ending = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(api: Api, name: string) {
    this.#api = api;
    this.#name = name;
  }

  /** Registers the node and makes it ready. @throws ApiError */
  async start(): Promise<void> {
    const labels = { "kubernetes.io/hostname": this.#name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" };
    await this.#api.create(NODES, { metadata: { name: this.#name, labels } }).catch(ignore(409));
    await this.#lease("POST").catch(ignore(409));
    await this.#status();
    this.#loop = this.#beat();
  }

  /** From now on the node is not heard of. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#loop;
  }

  async #beat(): Promise<void> {
    const { signal } = this.#ending;
    for (let beats = 1; !signal.aborted; beats += 1) {
      await sleep(BEAT_MS, undefined, { signal, ref: false }).catch(() => undefined);
      if (signal.aborted) return;
      // What the API server misses while it is down it hears again afterwards.
      await this.#lease("PATCH").catch(() => undefined);
      if (beats % 15 === 0) await this.#status().catch(() => undefined);
    }
  }

  async #lease(how: "POST" | "PATCH"): Promise<void> {
    const spec = { holderIdentity: this.#name, leaseDurationSeconds: 40, renewTime: new Date().toISOString().replace("Z", "000Z") };
    if (how === "PATCH") await this.#api.patch(`${LEASES}/${this.#name}`, { spec });
    else await this.#api.create(LEASES, { metadata: { name: this.#name, namespace: "kube-node-lease" }, spec });
  }

  async #status(): Promise<void> {
    const room = { cpu: "64", memory: "256Gi", pods: "500", "ephemeral-storage": "1Ti" };
    const at = now();
    const healthy = ["MemoryPressure", "DiskPressure", "PIDPressure"].map((type) => ({
      type,
      status: "False",
      reason: "KubeletHasSufficient",
      message: "",
    }));
    const conditions = [...healthy, { type: "Ready", status: "True", reason: "KubeletReady", message: "kubelet is posting ready status" }];
    const status = {
      capacity: room,
      allocatable: room,
      addresses: [{ type: "InternalIP", address: "127.0.0.1" }, { type: "Hostname", address: this.#name }], // prettier-ignore
      conditions: conditions.map((one) => ({ ...one, lastHeartbeatTime: at, lastTransitionTime: at })),
      nodeInfo: { kubeletVersion: "v1.0.0-lab", osImage: "lab", operatingSystem: "linux", architecture: "amd64", kernelVersion: "", machineID: "", systemUUID: "", bootID: "", containerRuntimeVersion: "lab://1", kubeProxyVersion: "" }, // prettier-ignore
    };
    await this.#api.patch(`${NODES}/${this.#name}/status`, { status }, "strategic-merge");
  }
}
