import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ControlPlane, SubresourceCall } from "../cluster/index.ts";
import { Refusal, applyKubeVirt, serveSubresources } from "../cluster/index.ts";
import { type Flavour, LabError } from "../lab/index.ts";
import { Informer, type KubeObject, type NodeSimulator, type Pod, ignore } from "../node/index.ts";
import { LAUNCHER_IMAGE, launcherImage } from "./launcher-image.ts";
import { Machine } from "./machine.ts";
import { Migration } from "./migration.ts";
import type { VmObject, VmiObject } from "./objects.ts";
import { KUBEVIRT, vmPath, vmiPath } from "./objects.ts";
import { Freezer } from "./freezer.ts";

const RETRY_MS = 2000;

/**
 * KubeVirt for a test's cluster: VirtualMachines that shall run get an instance, a virt-launcher pod on a node that the scheduler
 * chooses, and a real QEMU under a real libvirt in it, whoever made them. Freeze and unfreeze are served.
 */
export class KubeVirt {
  readonly nodes: NodeSimulator;
  readonly freezer: Freezer;
  readonly #machines: Map<string, Machine> = new Map();
  readonly #queues: Map<string, Promise<void>> = new Map();
  readonly #failures: Map<string, string> = new Map();
  readonly #closers: (() => Promise<void>)[] = [];
  readonly #stopping = new AbortController();
  #vms: Informer<VmObject> | undefined;

  private constructor(nodes: NodeSimulator) {
    this.nodes = nodes;
    this.freezer = new Freezer(nodes.api, (name) => this.#machines.get(name));
  }

  /** `trixie` can track blocks of raw disks, `host` cannot. @throws LabError */
  static async start(plane: ControlPlane, nodes: NodeSimulator, flavour: Flavour = "trixie"): Promise<KubeVirt> {
    const kubevirt = new KubeVirt(nodes);
    nodes.image(LAUNCHER_IMAGE, launcherImage(join(nodes.dir, "virt-launcher"), flavour));
    await applyKubeVirt(plane.admin);
    kubevirt.#closers.push(await serveSubresources(plane, (call) => kubevirt.#subresource(call)));
    kubevirt.#watch();
    return kubevirt;
  }

  /** A machine that runs, when it runs. @throws LabError with the reason when it does not within two minutes */
  async machine(name: string, namespace: string = "default"): Promise<Machine> {
    const key = `${namespace}/${name}`;
    for (const deadline = Date.now() + 120_000; Date.now() < deadline; await sleep(50)) {
      const machine = this.#machines.get(key);
      if (machine !== undefined && !this.#queues.has(key)) return machine;
    }
    throw new LabError(`${key} does not run: ${this.#failures.get(key) ?? "nobody asked for it"}`);
  }

  /** Whether it runs now. */
  runs(name: string, namespace: string = "default"): boolean {
    return this.#machines.has(`${namespace}/${name}`);
  }

  /** Sets what a machine shall do, and waits until it does. @throws LabError */
  async setRunStrategy(name: string, runStrategy: "Always" | "Halted", namespace: string = "default"): Promise<void> {
    await this.nodes.api.patch(`${KUBEVIRT}/namespaces/${namespace}/virtualmachines/${name}`, { spec: { runStrategy, running: null } });
    for (const deadline = Date.now() + 120_000; Date.now() < deadline; await sleep(50)) {
      if (this.runs(name, namespace) === (runStrategy === "Always") && !this.#queues.has(`${namespace}/${name}`)) return;
    }
    throw new LabError(`${namespace}/${name} did not become ${runStrategy}`);
  }

  /** Ends the machine and starts it anew, as `virtctl restart` does: another instance, another pod. `hard`: as by a power cut. @throws LabError */
  async restart(
    name: string,
    { namespace = "default", hard = false }: { readonly namespace?: string; readonly hard?: boolean } = {},
  ): Promise<Machine> {
    const machine = await this.machine(name, namespace);
    await this.#queued(machine.name, () => this.#halt(machine, { hard }));
    await this.#queued(machine.name, () => this.#reconcile(machine.name));
    return await this.machine(name, namespace);
  }

  /** Begins to migrate to another node; the test ends it. @throws LabError */
  async migrate(name: string, node: string, namespace: string = "default"): Promise<Migration> {
    return await Migration.begin(this.nodes.api, await this.machine(name, namespace), node);
  }

  /** Ends what serves and watches; the pods end with their nodes. */
  async stop(): Promise<void> {
    this.#stopping.abort(new LabError("the stand-in was stopped"));
    await Promise.all(this.#closers.map((close) => close()));
    await Promise.allSettled(this.#queues.values());
    this.freezer.stop();
    for (const machine of this.#machines.values()) machine.launcher.close();
  }

  #watch(): void {
    const { api } = this.nodes;
    const vms = new Informer<VmObject>(api, `${KUBEVIRT}/virtualmachines`, ({ metadata }) =>
      this.#look(`${metadata.namespace}/${metadata.name}`),
    );
    const vmis = new Informer<VmiObject>(api, `${KUBEVIRT}/virtualmachineinstances`, (vmi, gone) => {
      if (gone) this.#lost(vmi, (machine) => machine.vmi.metadata.uid === vmi.metadata.uid);
    });
    const pods = new Informer<Pod>(api, "/api/v1/pods?labelSelector=kubevirt.io%3Dvirt-launcher", (pod, gone) => {
      const isOver = gone || pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded";
      if (isOver) this.#lost(pod, (machine) => machine.pod.metadata.uid === pod.metadata.uid);
    });
    this.#vms = vms;
    for (const informer of [vms, vmis, pods]) this.#closers.push(() => informer.stop());
  }

  /** Somebody took a running machine's instance or pod away. */
  #lost(object: KubeObject, isIts: (machine: Machine) => boolean): void {
    const machine = [...this.#machines.values()].find((one) => isIts(one));
    if (machine === undefined || this.#queues.has(machine.name)) return;
    const hard = object.metadata.uid === machine.pod.metadata.uid;
    void this.#queued(machine.name, () => this.#halt(machine, { hard })).finally(() => this.#look(machine.name));
  }

  #look(name: string): void {
    if (this.#stopping.signal.aborted) return;
    void this.#queued(name, () => this.#reconcile(name));
  }

  /** One thing at a time for each machine. */
  async #queued(name: string, work: () => Promise<void>): Promise<void> {
    const before = this.#queues.get(name) ?? Promise.resolve();
    const mine = before.then(work).catch((cause: unknown) => {
      this.#failures.set(name, String(cause));
      setTimeout(() => this.#look(name), RETRY_MS).unref();
    });
    this.#queues.set(name, mine);
    await mine;
    if (this.#queues.get(name) === mine) this.#queues.delete(name);
  }

  async #reconcile(name: string): Promise<void> {
    const vm = [...(this.#vms?.items.values() ?? [])].find(({ metadata }) => `${metadata.namespace}/${metadata.name}` === name);
    const machine = this.#machines.get(name);
    const shallRun = vm !== undefined && vm.metadata.deletionTimestamp === undefined && wantsToRun(vm);
    if (shallRun && machine === undefined) await this.#boot(name, vm);
    if (!shallRun && machine !== undefined && (vm === undefined || vm.spec.runStrategy !== "Manual")) await this.#halt(machine, {});
    if (!shallRun && vm !== undefined) await this.#told(vm, "Stopped");
  }

  async #boot(name: string, vm: VmObject): Promise<void> {
    this.#failures.delete(name);
    this.#machines.set(name, await Machine.boot(this.nodes, await this.#withUuid(vm), this.#stopping.signal));
  }

  /** KubeVirt writes the firmware's UUID into the VM's spec, where there is none. */
  async #withUuid(vm: VmObject): Promise<VmObject> {
    if (vm.spec.template.spec.domain.firmware?.uuid !== undefined) return vm;
    const firmware = { uuid: randomUUID() };
    return await this.nodes.api.patch<VmObject>(vmPath(vm), { spec: { template: { spec: { domain: { firmware } } } } });
  }

  async #halt(machine: Machine, how: { readonly hard?: boolean }): Promise<void> {
    this.#machines.delete(machine.name);
    this.freezer.forget(machine.name);
    await machine.end(how);
    await this.nodes.api.remove(vmiPath(machine.vmi), { preconditions: { uid: machine.vmi.metadata.uid } });
    await this.#told(machine.vm, "Stopped");
  }

  async #told(vm: VmObject, printableStatus: string): Promise<void> {
    const status = { created: false, ready: false, printableStatus };
    await this.nodes.api.patch(`${vmPath(vm)}/status`, { status }).catch(ignore(404));
  }

  async #subresource({ verb, namespace, name, body }: SubresourceCall): Promise<void> {
    const machine = this.#machines.get(`${namespace}/${name}`);
    if (machine === undefined) throw new Refusal(404, "NotFound", `virtualmachineinstance.kubevirt.io "${name}" not found`);
    if (verb === "freeze") await this.freezer.freeze(machine, body);
    else await this.freezer.unfreeze(machine);
  }
}

function wantsToRun({ spec }: VmObject): boolean {
  return spec.running === true || spec.runStrategy === "Always" || spec.runStrategy === "RerunOnFailure" || spec.runStrategy === "Once";
}
