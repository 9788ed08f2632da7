import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import type { DiskSpec, GuestDomain } from "../lab/index.ts";
import { GuestConsole, LabError, domainXml } from "../lab/index.ts";
import type { NodeSimulator, Pod } from "../node/index.ts";
import { nameOf, podPath } from "../node/index.ts";
import { GUEST_DIR } from "./launcher-image.ts";
import { CBT_DIR, PRIVATE } from "./launcher-pod.ts";
import type { ClaimedDisk } from "./objects.ts";

export const SOCKET = "/var/run/libvirt/virtqemud-sock";
export const LAUNCHER_URI: string = `qemu+unix:///session?socket=${SOCKET}`;
const MIB = 2 ** 20;

export interface DomainOptions {
  readonly name: string;
  readonly uuid: string;
  readonly vmiUid: string;
  readonly guest: boolean;
  readonly tracksBlocks: boolean;
  readonly qcow2: readonly string[];
  /** Gives up waiting for the pod. */
  readonly signal: AbortSignal;
}

/** A running virt-launcher pod, and the domain in it. */
export class Launcher implements GuestDomain {
  readonly pod: Pod;
  readonly name: string;
  readonly qemuLog: string;
  readonly lab: GuestDomain["lab"] = { virsh: (...args) => this.virsh(...args) };
  readonly #nodes: NodeSimulator;
  readonly #options: DomainOptions;
  #disks: readonly DiskSpec[] = [];
  #console: GuestConsole | undefined;

  private constructor(nodes: NodeSimulator, pod: Pod, options: DomainOptions) {
    this.#nodes = nodes;
    this.pod = pod;
    this.#options = options;
    this.name = options.name;
    this.qemuLog = join(nodes.podDir(pod), "volumes/kubernetes.io~empty-dir/private-libvirt-qemu/log", `${options.name}.log`);
  }

  /** Waits for a pod that was created, and for the libvirt in it. @throws LabError */
  static async of(nodes: NodeSimulator, pod: Pod, options: DomainOptions): Promise<Launcher> {
    const deadline = Date.now() + 120_000;
    let last = "it was not scheduled";
    for (;;) {
      options.signal.throwIfAborted();
      const now = await nodes.api.get<Pod>(podPath(pod));
      if (now.status?.phase === "Failed" || Date.now() > deadline)
        throw new LabError(`virt-launcher ${nameOf(pod)} did not start: ${last}`);
      if (now.status?.phase === "Running") {
        try {
          await nodes.exec(now, ["virsh", "-q", "-c", LAUNCHER_URI, "version", "--daemon"]);
          return new Launcher(nodes, now, options);
        } catch (cause) {
          last = `${String(cause)} ${nodes.log(now)}`;
        }
      }
      await sleep(100);
    }
  }

  get spec(): { readonly disks: readonly DiskSpec[] } {
    return { disks: this.#disks };
  }

  /** The guest's root shell. @throws LabError when the machine has no guest */
  get guest(): GuestConsole {
    if (this.#console === undefined) throw new LabError(`${this.name} has no running guest`);
    return this.#console;
  }

  /** virsh in the pod, as the pod's user. @throws LabError */
  virsh(...args: readonly string[]): Promise<string> {
    return this.exec("virsh", "-q", "-c", LAUNCHER_URI, ...args);
  }

  /** Any command in the pod. @throws LabError */
  exec(...command: readonly string[]): Promise<string> {
    return this.#nodes.exec(this.pod, command);
  }

  /** Makes what is missing of the disks, then defines and starts the domain: with the guest when its shell and agent answer. @throws LabError */
  async start(disks: readonly ClaimedDisk[]): Promise<void> {
    const count = new Map<string, number>();
    const specs: DiskSpec[] = [];
    for (const disk of disks) {
      const letter = disk.bus === "virtio" ? "vd" : "sd";
      const index = count.get(letter) ?? 0;
      count.set(letter, index + 1);
      specs.push(await this.#disk(disk, `${letter}${String.fromCodePoint(97 + index)}`));
    }
    this.#disks = specs;
    const { guest, uuid, vmiUid } = this.#options;
    const console = `${PRIVATE}/${vmiUid}/virt-serial0`;
    const xml = domainXml({ name: this.name, disks: specs, guest }, { uuid, console, consoleLog: `${console}-log`, guest: GUEST_DIR });
    const file = `${PRIVATE}/domain.xml`;
    await this.#nodes.exec(this.pod, ["tee", file], xml);
    await this.virsh("define", file);
    await this.virsh("start", ...(guest ? [] : ["--paused"]), this.name);
    if (guest) await this.#untilGuest(console);
  }

  /** Ends the domain: cleanly as far as QEMU is concerned, so that bitmaps are kept; its guest too, where it has one. @throws LabError */
  async stop(): Promise<void> {
    if (this.#options.guest && this.#console !== undefined) {
      this.#console.close();
      this.#console = undefined;
      await this.virsh("shutdown", "--mode", "agent", this.name).catch(() => undefined);
      for (let tries = 0; tries < 100 && (await this.virsh("list", "--name")).trim() !== ""; tries += 1) await sleep(100);
    }
    if ((await this.virsh("list", "--name")).trim() !== "") await this.virsh("destroy", "--graceful", this.name);
  }

  /** Forgets the console of a domain that is gone. */
  close(): void {
    this.#console?.close();
    this.#console = undefined;
  }

  async #disk(disk: ClaimedDisk, name: string): Promise<DiskSpec> {
    const path = disk.mode === "Block" ? `/dev/${disk.volume}` : `${PRIVATE}/vmi-disks/${disk.volume}/disk.img`;
    const format = await this.#image(disk, path);
    const type = disk.mode === "Block" ? "block" : "file";
    const common = { name, alias: `ua-${disk.volume}`, ...(disk.bus === "virtio" ? {} : { bus: disk.bus as "scsi" | "sata" }) };
    if (!this.#options.tracksBlocks || format !== "raw") return { ...common, path, format, type };
    return { ...common, path: await this.#overlay(disk, path), format: "qcow2", dataFile: path, type };
  }

  /** Makes the image where there is none; gives its format. */
  async #image({ volume, mode, size }: ClaimedDisk, path: string): Promise<"raw" | "qcow2"> {
    if (mode === "Block") return "raw";
    const exists = await this.exec("test", "-e", path).then(() => true, () => false); // prettier-ignore
    if (exists) return (JSON.parse(await this.exec("qemu-img", "info", "-U", "--output=json", path)) as { format: "raw" | "qcow2" }).format;
    const format = this.#options.qcow2.includes(volume) ? "qcow2" : "raw";
    // KubeVirt leaves 5.5 % of a file system for itself.
    const bytes = Math.floor((size * 0.945) / MIB) * MIB;
    await this.exec("qemu-img", "create", "-q", "-f", format, path, String(bytes));
    return format;
  }

  /** The qcow2 with nothing but bitmaps in it; one that is there is taken as it is, as KubeVirt does. */
  async #overlay({ volume, mode }: ClaimedDisk, dataFile: string): Promise<string> {
    const path = `${CBT_DIR}/${volume}.qcow2`;
    if (await this.exec("test", "-e", path).then(() => true, () => false)) return path; // prettier-ignore
    const size =
      mode === "Block"
        ? (await this.exec("blockdev", "--getsize64", dataFile)).trim()
        : (await this.exec("stat", "-c", "%s", dataFile)).trim();
    await this.exec("make-overlay", path, dataFile, mode === "Block" ? "host_device" : "file", size);
    return path;
  }

  async #untilGuest(console: string): Promise<void> {
    // A unix socket's address has 107 bytes, less than the pod's directory takes on this machine.
    this.#console = await GuestConsole.connect(`/proc/${this.#nodes.pid(this.pod)}/root${console.replace("/var/run", "/run")}`);
    for (const deadline = Date.now() + 60_000; ;) {
      try {
        await this.virsh("qemu-agent-command", "--timeout", "10", this.name, '{"execute":"guest-ping"}');
        return;
      } catch (cause) {
        if (Date.now() > deadline) throw cause;
        await sleep(100);
      }
    }
  }
}
