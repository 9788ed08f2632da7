import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  createImage,
  defineDomain,
  LabError,
  type LabDomain,
  type LibvirtLab,
  qdevPath,
  qemuIo,
  rawCopy,
  writeAsGuest,
} from "../lab/index.ts";
import { type DiskImprint, DiskModel } from "./disk-model.ts";
import type { GuestAction } from "./guest-actions.ts";

const PATIENCE_MS = 20_000;

/** How a new disk is made. */
export interface NewDisk {
  readonly format: "qcow2" | "raw";
  /** bytes */
  readonly size: number;
  readonly clusterSize?: number;
}

/** The machine under test: paused while it runs, its disks' true content known. */
export class SoakVm {
  readonly lab: LibvirtLab;
  readonly name = "soak";
  readonly attached: DiskModel[] = [];
  /** taken out of the machine, their images kept */
  readonly shelf: DiskModel[] = [];
  running = false;
  #domain!: LabDomain;
  #made = 0;

  constructor(lab: LibvirtLab) {
    this.lab = lab;
  }

  get uuid(): string {
    return this.#domain.uuid;
  }

  /** An empty disk, not attached yet. */
  async make(name: string, disk: NewDisk): Promise<DiskModel> {
    const path = join(this.lab.dir, `${name}-${this.#made++}.img`);
    const { format, size, clusterSize } = disk;
    await createImage(path, { size, format, ...(clusterSize === undefined ? {} : { clusterSize }) });
    return new DiskModel({ name, path, format, alias: `ua-${name}` }, size);
  }

  /** Defines it with the disks that are attached, as the same machine every time. */
  async define(): Promise<void> {
    const uuid = this.#domain === undefined ? {} : { uuid: this.#domain.uuid };
    this.#domain = await defineDomain(this.lab, { name: this.name, disks: this.attached.map(({ spec }) => spec), ...uuid });
  }

  async start(): Promise<void> {
    // A qemu-nbd whose run was killed may hold an image for a moment longer.
    const until = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        await this.#domain.start();
        this.running = true;
        return;
      } catch (error) {
        if (Date.now() > until || !/lock/.test(String(error))) throw error;
        await delay(100);
      }
    }
  }

  /** QEMU ends in order and saves its bitmaps. */
  async stop(): Promise<void> {
    await this.#domain.destroy();
    this.running = false;
  }

  /** QEMU ends by SIGKILL and saves nothing: what the guest had not flushed may be lost, and the models take what is left. */
  async kill(): Promise<void> {
    process.kill(this.#domain.qemuPid(), "SIGKILL");
    const until = Date.now() + PATIENCE_MS;
    while ((await this.lab.virsh("domstate", this.name)).trim() !== "shut off") {
      if (Date.now() > until) throw new LabError("libvirt did not notice that QEMU was killed");
      await delay(50);
    }
    this.running = false;
    const raw = join(this.lab.dir, "after-kill.raw");
    for (const disk of this.attached) disk.load(readFileSync(await rawCopy(disk.spec.path, raw)));
    rmSync(raw);
  }

  /** The machine forgets its checkpoints' descriptions; the bitmaps stay in the images. Off only. */
  async loseMetadata(): Promise<void> {
    await this.#domain.undefine();
    await this.define();
  }

  /** Does to the disk what was done to its model, in order: as the guest or, when the machine is off, to the image. */
  async act(disk: DiskModel, actions: readonly GuestAction[]): Promise<void> {
    const commands = actions.flatMap((action) => action.commands);
    if (!this.running || !this.attached.includes(disk)) await qemuIo(disk.spec.path, ...commands);
    else await this.#actLive(disk, commands);
  }

  /** One virsh for all of them: starting it costs more than the writing. */
  async #actLive(disk: DiskModel, commands: readonly string[]): Promise<void> {
    const device = qdevPath(this.#domain, disk.spec.name);
    const log = join(this.lab.dir, "fs/log/qemu", `${this.name}.log`);
    const before = statSync(log).size;
    const lines = commands.map((command) => `qemu-monitor-command ${this.name} --hmp 'qemu-io -d ${device} "${command}"'`);
    const said = await this.lab.virsh(lines.join("; "));
    const answer = readFileSync(log).subarray(before).toString();
    const done = [...answer.matchAll(/^(?:wrote|read|discard) (\d+)\/\1 bytes/gm)].length;
    if (done !== commands.length) throw new LabError(`of ${commands.length} qemu-io commands ${done} were done: ${said} ${answer}`);
  }

  /** What the guest wrote is on its disks. */
  async flush(): Promise<void> {
    for (const { spec } of this.attached) await writeAsGuest(this.#domain, spec.name, "flush");
  }

  async checkpoints(): Promise<string[]> {
    const list = await this.lab.virsh("checkpoint-list", "--name", this.name);
    return list.split(/\s+/).filter((name) => name !== "");
  }

  imprint(): ReadonlyMap<string, DiskImprint> {
    return new Map(this.attached.map((disk) => [disk.spec.name, disk.imprint()]));
  }
}
