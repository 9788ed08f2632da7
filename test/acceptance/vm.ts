import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  compareRaw,
  createImage,
  defineDomain,
  type DiskSpec,
  type DomainSpec,
  type ImageOptions,
  type LabDomain,
  qemuIo,
  rawCopy,
  writeAsGuest,
} from "../lab/index.ts";
import type { BackupJson, CliResult, RestoreJson } from "../support/thinstream.ts";
import { type Repo, uniqueName, type World } from "./world.ts";

/** A restore point, and what the disks were at its instant. */
export interface Taken {
  readonly backup: BackupJson;
  /** raw files by disk name */
  readonly references: ReadonlyMap<string, string>;
  readonly repo: Repo;
}

export interface TakeOptions {
  readonly repo?: Repo;
  readonly args?: readonly string[];
}

/** A machine of a world: a lab domain, and every point that was taken of it with the truth beside it. */
export class Vm {
  readonly world: World;
  readonly name: string;
  readonly disks: DiskSpec[] = [];
  readonly taken: Taken[] = [];
  domain!: LabDomain;
  #spec: Partial<DomainSpec> = {};

  constructor(world: World, name: string = uniqueName("vm")) {
    this.world = world;
    this.name = name;
  }

  /** A new machine with empty disks, started: paused, or with its guest. */
  static async start(
    world: World,
    disks: Readonly<Record<string, ImageOptions & { spec?: Partial<DiskSpec> }>>,
    spec: Partial<DomainSpec> = {},
  ): Promise<Vm> {
    const vm = new Vm(world);
    for (const [name, image] of Object.entries(disks)) await vm.addDisk(name, image);
    await vm.define(spec);
    await vm.domain.start();
    return vm;
  }

  /** Makes the image; `define` puts it into the domain. */
  async addDisk(name: string, { spec, ...image }: ImageOptions & { spec?: Partial<DiskSpec> }): Promise<string> {
    const path = join(this.world.lab.dir, `${this.name}-${name}.img`);
    if (image.dataFile !== undefined) await createImage(image.dataFile, { size: image.size, format: "raw" });
    await createImage(path, image);
    const data = image.dataFile === undefined ? {} : { dataFile: image.dataFile };
    this.disks.push({ name, path, format: image.format ?? "qcow2", ...data, ...spec });
    return path;
  }

  /** Defines the domain, or defines it anew with the same UUID. */
  async define(spec: Partial<DomainSpec> = {}): Promise<void> {
    this.#spec = { ...this.#spec, ...(this.domain === undefined ? {} : { uuid: this.domain.uuid }), ...spec };
    this.domain = await defineDomain(this.world.lab, { name: this.name, disks: this.disks, ...this.#spec });
  }

  path(disk: string = "vda"): string {
    const found = this.disks.find(({ name }) => name === disk);
    if (found === undefined) throw new Error(`${this.name} has no disk ${disk}`);
    return found.path;
  }

  /** Writes to a disk as the guest would (`write -P 1 0 64k`), or while the machine is off as another program would. */
  async write(disk: string, ...commands: readonly string[]): Promise<void> {
    if (await this.isActive()) await writeAsGuest(this.domain, disk, ...commands);
    else await qemuIo(this.path(disk), ...commands);
  }

  async isActive(): Promise<boolean> {
    return (await this.world.lab.virsh("domstate", this.name)).trim() !== "shut off";
  }

  /** What the disks are now, as raw files. The machine must not write meanwhile: paused, or off. */
  async references(): Promise<Map<string, string>> {
    return await this.#copies(await this.isActive());
  }

  async #copies(active: boolean): Promise<Map<string, string>> {
    const dir = this.world.output("ref");
    mkdirSync(dir);
    const found = new Map<string, string>();
    for (const { name, path, device = "disk" } of this.disks) {
      if (device !== "disk") continue;
      if (active) await writeAsGuest(this.domain, name, "flush");
      found.set(name, await rawCopy(path, join(dir, name)));
    }
    return found;
  }

  /** The flags of a backup of this machine. */
  flags(args: readonly string[] = []): string[] {
    return ["--connect", this.world.lab.uri, "--domain", this.name, "--scratch-dir", this.world.scratch, ...args];
  }

  /** A backup that must succeed, with what the disks are kept beside it. */
  async take({ repo = this.world.repo, args = [] }: TakeOptions = {}): Promise<Taken> {
    const references = await this.references();
    const backup = await this.world.json<BackupJson>("backup", this.flags(args), repo);
    return this.add({ backup, references, repo });
  }

  /** A backup of the disks' images without libvirt. */
  async takeImage(args: readonly string[] = []): Promise<Taken> {
    const references = await this.#copies(false);
    const images = this.disks.flatMap(({ name, path }) => ["--image", `${name}=${path}`]);
    const backup = await this.world.json<BackupJson>("backup", [...images, "--vm", this.name, ...args]);
    return this.add({ backup, references, repo: this.world.repo });
  }

  add(taken: Taken): Taken {
    this.taken.push(taken);
    return taken;
  }

  /** A backup, whatever becomes of it. */
  backup(args: readonly string[] = [], repo: Repo = this.world.repo): Promise<CliResult> {
    return this.world.run("backup", this.flags(args), { repo });
  }

  /** Restores points (default all) and compares every disk with what it was, byte for byte. */
  async expectRestores(points: readonly Taken[] = this.taken): Promise<void> {
    for (const point of points) await expectRestore(this.world, point);
  }

  async checkpoints(): Promise<string[]> {
    const text = await this.world.lab.virsh("checkpoint-list", "--name", this.name);
    return text.split("\n").map((line) => line.trim()).filter((line) => line !== ""); // prettier-ignore
  }

  /** What is left of runs of ours, in libvirt and on the host. */
  async leftovers(): Promise<string[]> {
    const left = this.world.hostLeftovers(this.domain.uuid, ...this.disks.map(({ path }) => path));
    if (!(await this.isActive())) return left;
    const job = await this.world.lab.virsh("domjobinfo", this.name);
    for (const { name } of this.disks) {
      const blockJob = await this.world.lab.virsh("blockjob", this.name, name, "--info");
      if (!/^(No current block job.*)?$/.test(blockJob.trim())) left.push(blockJob.trim());
    }
    return /None/.test(job) ? left : [...left, job.trim()];
  }

  /** Nothing is left, and libvirt has this many checkpoints (default: the one of the newest point). */
  async expectTidy(checkpoints: number = 1): Promise<void> {
    assert.deepEqual(await this.leftovers(), []);
    assert.equal((await this.checkpoints()).length, checkpoints, String(await this.checkpoints()));
  }
}

/** Restores one point as raw files and compares each with its reference. */
export async function expectRestore(world: World, { backup, references, repo }: Taken): Promise<RestoreJson> {
  const output = world.output();
  const restored = await world.json<RestoreJson>("restore", ["--point", backup.point, "--output", output], repo);
  for (const { name, path } of restored.disks) {
    const reference = references.get(name);
    assert.ok(reference !== undefined, `${backup.point} has a disk ${name} that the machine has not`);
    assert.equal(await compareRaw(path, reference), undefined, `${backup.point} (${backup.level}) restores another ${name}`);
  }
  assert.equal(restored.disks.length, backup.disks.length);
  return restored;
}

/** Disk name to level of a point. */
export function levels({ backup }: Taken): Record<string, string> {
  return Object.fromEntries(backup.disks.map(({ name, level }) => [name, level]));
}

export function diskOf({ backup }: Taken, name: string = "vda"): BackupJson["disks"][number] {
  const disk = backup.disks.find((one) => one.name === name);
  if (disk === undefined) throw new Error(`the point ${backup.point} has no disk ${name}`);
  return disk;
}
