import { setTimeout as sleep } from "node:timers/promises";
import { LabError, run, tempDir, writeAsGuest } from "../lab/index.ts";
import { type KubeObject, type NodeSimulator, type Pod, bytesOf, ignore, nameOf, podPath } from "../node/index.ts";
import { type DomainOptions, Launcher } from "./launcher.ts";
import { launcherPod } from "./launcher-pod.ts";
import type { ClaimedDisk, VmObject, VmiObject } from "./objects.ts";
import { KUBEVIRT, QCOW2_ANNOTATION, bootsGuest, claimOf, ownedBy, tracksBlocks, vmPath, vmiPath } from "./objects.ts";
import { stateClaimOf } from "./state-claim.ts";
import { initialStatus, runningStatus } from "./status.ts";

interface Made {
  readonly vm: VmObject;
  readonly vmi: VmiObject;
  readonly disks: readonly ClaimedDisk[];
  readonly stateClaim: string | undefined;
  readonly signal: AbortSignal;
  readonly launcher: Launcher;
}

/** A virtual machine that runs: its instance, its virt-launcher pod and its domain. */
export class Machine {
  readonly vm: VmObject;
  readonly vmi: VmiObject;
  readonly disks: readonly ClaimedDisk[];
  launcher: Launcher;
  readonly #nodes: NodeSimulator;
  readonly #stateClaim: string | undefined;
  readonly #signal: AbortSignal;

  private constructor(nodes: NodeSimulator, made: Made) {
    this.#nodes = nodes;
    this.vm = made.vm;
    this.vmi = made.vmi;
    this.disks = made.disks;
    this.launcher = made.launcher;
    this.#stateClaim = made.stateClaim;
    this.#signal = made.signal;
  }

  /** Makes instance and pod, waits for the scheduler, the volumes and libvirt, and starts the domain. @throws LabError */
  static async boot(nodes: NodeSimulator, vm: VmObject, signal: AbortSignal): Promise<Machine> {
    const { api } = nodes;
    const stateClaim = tracksBlocks(vm) ? await stateClaimOf(api, vm) : undefined;
    const disks = await claimedDisks(nodes, vm);
    const { namespace, name, labels } = vm.metadata;
    const template = vm.spec.template;
    const vmi = await api.create<VmiObject>(`${KUBEVIRT}/namespaces/${namespace}/virtualmachineinstances`, {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachineInstance",
      metadata: {
        name,
        namespace,
        labels: { ...labels, ...template.metadata?.labels },
        annotations: template.metadata?.annotations ?? {},
        ownerReferences: [ownedBy("VirtualMachine", vm)],
      },
      spec: template.spec,
      status: initialStatus(vm),
    });
    try {
      return await Machine.#bootInstance(nodes, { vm, vmi, disks, stateClaim, signal });
    } catch (cause) {
      // Its pod goes with it.
      await api.remove(vmiPath(vmi));
      throw cause;
    }
  }

  static async #bootInstance(nodes: NodeSimulator, made: Omit<Made, "launcher">): Promise<Machine> {
    const { api } = nodes;
    const { vm, vmi } = made;
    const pod = await api.create<Pod>(`/api/v1/namespaces/${vm.metadata.namespace}/pods`, launcherPod(vm, vmi, made));
    await api.patch(vmiPath(vmi), { status: { phase: "Scheduling", activePods: { [pod.metadata.uid]: "" } } });
    const launcher = await Launcher.of(nodes, pod, domainOptions(vm, vmi, made.signal));
    const machine = new Machine(nodes, { ...made, launcher });
    await api.patch(vmiPath(vmi), {
      status: { phase: "Scheduled", nodeName: machine.node, activePods: { [pod.metadata.uid]: machine.node } },
    });
    await launcher.start(made.disks);
    await machine.#told();
    return machine;
  }

  /** `<namespace>/<name>` */
  get name(): string {
    return nameOf(this.vm);
  }

  get pod(): Pod {
    return this.launcher.pod;
  }

  get node(): string {
    return this.pod.spec.nodeName ?? "";
  }

  /** The PersistentVolume with the machine's own state; undefined where it does not track blocks. @throws ApiError */
  async stateVolume(): Promise<string | undefined> {
    if (this.#stateClaim === undefined) return undefined;
    const path = `/api/v1/namespaces/${this.vm.metadata.namespace}/persistentvolumeclaims/${this.#stateClaim}`;
    return (await this.#nodes.api.get<{ spec: { volumeName: string } }>(path)).spec.volumeName;
  }

  /** Does to a volume what the guest could: qemu-io's commands, as `write -P 7 0 64k`. @throws LabError */
  async write(volume: string, ...commands: readonly string[]): Promise<void> {
    await writeAsGuest(this.launcher, this.#diskName(volume), ...commands);
  }

  /** A volume as its guest would read it now, as a raw file. What the guest has not written yet is not in it. @throws LabError */
  async snapshot(volume: string): Promise<string> {
    const running = (await this.launcher.virsh("domstate", this.launcher.name)).trim() === "running";
    if (running) await this.launcher.virsh("suspend", this.launcher.name);
    try {
      await this.write(volume, "flush");
      return await contentOf(this.#nodes, this.#disk(volume));
    } finally {
      if (running) await this.launcher.virsh("resume", this.launcher.name);
    }
  }

  /** Ends domain and pod; the instance is its owner's to delete. `hard`: the pod is killed, as a power cut would. @throws LabError */
  async end({ hard = false }: { readonly hard?: boolean } = {}): Promise<void> {
    const { api } = this.#nodes;
    this.launcher.close();
    if (!hard) await this.launcher.stop().catch(() => undefined);
    await api.remove(podPath(this.pod), { gracePeriodSeconds: hard ? 0 : 30, preconditions: { uid: this.pod.metadata.uid } });
    if (hard) return;
    for (let tries = 0; tries < 400; tries += 1) {
      const now = await api.get<Pod>(podPath(this.pod)).catch(ignore(404));
      if (now?.metadata.uid !== this.pod.metadata.uid) return;
      await sleep(100);
    }
    throw new LabError(`virt-launcher of ${this.name} does not end`);
  }

  /** The pod that a migration shall end in, running libvirt without a domain. @throws LabError */
  async target(node: string, migration: KubeObject): Promise<Launcher> {
    const options = { disks: this.disks, stateClaim: this.#stateClaim, target: { node, migration } };
    const pod = await this.#nodes.api.create<Pod>(
      `/api/v1/namespaces/${this.vm.metadata.namespace}/pods`,
      launcherPod(this.vm, this.vmi, options),
    );
    return await Launcher.of(this.#nodes, pod, domainOptions(this.vm, this.vmi, this.#signal));
  }

  /** Goes on in another pod; the one it was in ends. @throws LabError */
  async moveTo(target: Launcher): Promise<void> {
    const source = this.launcher;
    await source.stop();
    await target.start(this.disks);
    this.launcher = target;
    await this.#told();
    await this.#nodes.api.remove(podPath(source.pod));
  }

  async #told(): Promise<void> {
    const { api } = this.#nodes;
    await api.patch(vmiPath(this.vmi), { status: runningStatus(this) });
    const status = {
      created: true,
      ready: true,
      printableStatus: "Running",
      ...(tracksBlocks(this.vm) ? { changedBlockTracking: { state: "Enabled" } } : {}),
    };
    await api.patch(`${vmPath(this.vm)}/status`, { status }).catch(ignore(404));
  }

  #disk(volume: string): ClaimedDisk {
    const disk = this.disks.find((one) => one.volume === volume);
    if (disk === undefined) throw new LabError(`${this.name} has no volume ${volume}`);
    return disk;
  }

  #diskName(volume: string): string {
    const disk = this.launcher.spec.disks.find(({ alias }) => alias === `ua-${volume}`);
    if (disk === undefined) throw new LabError(`${this.name} has no disk on volume ${volume}`);
    return disk.name;
  }
}

/** What lies on a claim, as a raw file; of a running machine, what was flushed. @throws LabError */
export async function contentOf(nodes: NodeSimulator, disk: ClaimedDisk): Promise<string> {
  const volumeName = await disk.volumeName();
  const output = `${tempDir("disk")}/${disk.volume}.raw`;
  const device = nodes.volumes.deviceOf(volumeName);
  if (device !== undefined) {
    // Read through the device: its cache lies between its users and the file behind it.
    await run("cp", ["--sparse=always", device, output]);
    return output;
  }
  const file = `${nodes.volumes.pathOf(volumeName)}/disk.img`;
  const { format } = JSON.parse(await run("qemu-img", ["info", "-U", "--output=json", file])) as { format: string };
  await run("qemu-img", ["convert", "-U", "-f", format, "-O", "raw", file, output]);
  return output;
}

/** The disks of a machine that lie on claims, in their order. @throws ApiError */
export async function claimedDisks({ api }: NodeSimulator, vm: VmObject): Promise<ClaimedDisk[]> {
  const { domain, volumes = [] } = vm.spec.template.spec;
  const found: ClaimedDisk[] = [];
  for (const { name, disk } of domain.devices.disks ?? []) {
    const volume = volumes.find((one) => one.name === name);
    const claim = volume === undefined ? undefined : claimOf(volume);
    if (claim === undefined) continue;
    const path = `/api/v1/namespaces/${vm.metadata.namespace}/persistentvolumeclaims/${claim}`;
    const { spec } = await api.get<{ spec: { volumeMode?: ClaimedDisk["mode"]; resources: { requests: { storage: string } } } }>(path);
    const volumeName = async (): Promise<string> => (await api.get<{ spec: { volumeName: string } }>(path)).spec.volumeName;
    const size = bytesOf(spec.resources.requests.storage);
    found.push({ volume: name, claim, mode: spec.volumeMode ?? "Filesystem", bus: disk?.bus ?? "virtio", size, volumeName });
  }
  return found;
}

function domainOptions(vm: VmObject, vmi: VmiObject, signal: AbortSignal): DomainOptions {
  return {
    name: `${vm.metadata.namespace}_${vm.metadata.name}`,
    uuid: vm.spec.template.spec.domain.firmware?.uuid ?? "",
    vmiUid: vmi.metadata.uid,
    guest: bootsGuest(vm),
    tracksBlocks: tracksBlocks(vm),
    qcow2: (vm.spec.template.metadata?.annotations?.[QCOW2_ANNOTATION] ?? "").split(","),
    signal,
  };
}
