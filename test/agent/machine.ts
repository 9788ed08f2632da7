import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type BackupSource, type BaseFacts, type LibvirtPullOptions, openLibvirtPull, type SourceDisk } from "../../src/agent/index.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { createImage, defineDomain, type DiskSpec, type LabDomain, type LibvirtLab, writeAsGuest } from "../lab/index.ts";

export const MiB: number = 2 ** 20;
const TAG = "0badcafe";

/** What a run left, as the repository would keep it: the content of every disk and the facts to stand on. */
export interface Point {
  readonly source: BackupSource;
  readonly content: ReadonlyMap<string, Buffer>;
  readonly bases: readonly BaseFacts[];
}

/** A lab domain whose disks' true content is known at every moment, and the points taken of it. */
export class Machine {
  readonly lab: LibvirtLab;
  readonly name: string;
  readonly truth: Map<string, Buffer> = new Map();
  readonly specs: DiskSpec[] = [];
  readonly runtimeDir: string;
  tag: string = TAG;
  domain!: LabDomain;
  bases: readonly BaseFacts[] = [];
  committed: string[] = [];
  #points = 0;

  constructor(lab: LibvirtLab) {
    this.lab = lab;
    this.name = `vm-${randomBytes(3).toString("hex")}`;
    this.runtimeDir = lab.dir;
  }

  /** Adds an empty disk of `size` bytes; before `start`. */
  async disk(
    name: string,
    size: number,
    image: Partial<Parameters<typeof createImage>[1]> & { spec?: Partial<DiskSpec> } = {},
  ): Promise<string> {
    const { spec, ...options } = image;
    const path = join(this.lab.dir, `${this.name}-${name}.img`);
    if (options.dataFile !== undefined) await createImage(options.dataFile, { size, format: "raw" });
    await createImage(path, { size, ...options });
    this.truth.set(name, Buffer.alloc(size));
    this.specs.push({
      name,
      path,
      format: options.format ?? "qcow2",
      ...(options.dataFile === undefined ? {} : { dataFile: options.dataFile }),
      ...spec,
    });
    return path;
  }

  async define(more: Partial<Parameters<typeof defineDomain>[1]> = {}): Promise<void> {
    this.domain = await defineDomain(this.lab, { name: this.name, disks: this.specs, ...more });
  }

  async start(more: Partial<Parameters<typeof defineDomain>[1]> = {}): Promise<void> {
    await this.define(more);
    await this.domain.start();
  }

  /** Writes one byte value as the guest would. */
  async write(disk: string, value: number, offset: number, length: number): Promise<void> {
    await writeAsGuest(this.domain, disk, `write -P ${value} ${offset} ${length}`);
    this.model(disk, value, offset, length);
  }

  async zero(disk: string, offset: number, length: number, how: "write -z -u" | "write -z" | "discard" = "write -z -u"): Promise<void> {
    await writeAsGuest(this.domain, disk, `${how} ${offset} ${length}`);
    this.model(disk, 0, offset, length);
  }

  model(disk: string, value: number, offset: number, length: number): void {
    this.truth.get(disk)?.fill(value, offset, offset + length);
  }

  open(options: Partial<LibvirtPullOptions> = {}): Promise<BackupSource> {
    return openLibvirtPull({
      uri: this.lab.uri,
      domain: this.name,
      level: "auto",
      quiesce: "never",
      runtimeDir: this.runtimeDir,
      repoTag: this.tag,
      bases: this.bases,
      committed: this.committed,
      scratchFloor: MiB,
      signal: new AbortController().signal,
      log: silentLogger,
      ...options,
    });
  }

  /** Opens, reads everything that must be read, commits, and checks every disk byte for byte against the truth. */
  async backup(options: Partial<LibvirtPullOptions> = {}, before?: Point): Promise<Point> {
    const source = await this.open(options);
    return this.take(source, before);
  }

  async take(source: BackupSource, before?: Point): Promise<Point> {
    const content = new Map<string, Buffer>();
    try {
      for (const disk of source.disks) content.set(disk.name, await readDisk(disk, before?.content.get(disk.name)));
    } catch (error) {
      await source.abort();
      throw error;
    }
    assert.deepEqual(await source.commit(), []);
    for (const [name, bytes] of content) assert.equal(`${name} ${differenceOf(bytes, this.truth.get(name))}`, `${name} none`);
    this.#points += 1;
    const point = `point-${this.#points}`;
    const xml = source.captures.find((capture) => capture.name === "checkpoint.xml");
    const checkpointXml = xml === undefined ? null : Buffer.from(xml.bytes).toString("utf8");
    const made = source.disks.flatMap((disk): BaseFacts[] =>
      disk.checkpoint === null
        ? []
        : [{ disk: disk.name, point, size: disk.size, checkpoint: disk.checkpoint, checkpointXml, imageInfo: disk.imageInfo }],
    );
    const kept = this.bases.filter((base) => !made.some((one) => one.disk === base.disk));
    this.bases = [...made, ...kept];
    this.committed.push(...new Set(made.map((base) => base.checkpoint)));
    return { source, content, bases: this.bases };
  }

  async checkpoints(): Promise<string[]> {
    return (await this.lab.virsh("checkpoint-list", "--name", this.name))
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");
  }

  /** What of ours is left on the host: directories, sockets, jobs. */
  async leftovers(): Promise<string[]> {
    const dirs = existsSync(this.runtimeDir) ? readdirSync(this.runtimeDir).filter((name) => name.startsWith("ts-")) : [];
    const job = await this.lab.virsh("domjobinfo", this.name).catch(() => "Job type: None");
    return [...dirs, ...(/None/.test(job) ? [] : [job.trim()])];
  }
}

export function levels(source: BackupSource): Record<string, string> {
  return Object.fromEntries(source.disks.map((disk) => [disk.name, disk.level]));
}

export function reasonOf(source: BackupSource, disk: string): string {
  return source.disks.find((one) => one.name === disk)?.reason ?? "";
}

/** Bytes of each state, and the disk's content with clean extents taken from the base. */
export async function readDisk(disk: SourceDisk, base: Buffer | undefined, counts: Record<string, number> = {}): Promise<Buffer> {
  const { signal } = new AbortController();
  const content = Buffer.alloc(disk.size, 0xee);
  let at = 0;
  for await (const { offset, length, state } of disk.extents(signal)) {
    assert.equal(offset, at);
    at += length;
    counts[state] = (counts[state] ?? 0) + length;
    if (state === "zero") content.fill(0, offset, at);
    else if (state === "data") await disk.read([{ offset, into: content.subarray(offset, at) }], signal);
    else {
      if (base === undefined || base.length < at) throw new Error(`${disk.name}: clean at ${offset} without a base`);
      base.copy(content, offset, offset, at);
    }
  }
  assert.equal(at, disk.size);
  return content;
}

function differenceOf(actual: Buffer, wanted: Buffer | undefined): string {
  if (wanted === undefined || actual.length !== wanted.length) return `sizes ${actual.length} and ${wanted?.length}`;
  if (actual.equals(wanted)) return "none";
  const at = actual.findIndex((byte, index) => byte !== wanted[index]);
  return `at ${at}: ${actual[at]} instead of ${wanted[at]}`;
}
