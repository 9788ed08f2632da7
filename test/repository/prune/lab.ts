import { randomBytes } from "node:crypto";

import type { CallOptions, GetOptions, ListOptions, ObjectStat } from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { type PointRecord, prune, type PruneReport, type Repository } from "../../../src/repository/index.ts";
import { newRepository, take, type TakeOptions } from "../harness.ts";
import { readDisk } from "../light-reader.ts";
import { MemoryDisk } from "../memory-disk.ts";

export const KiB = 1024;
export const GRACE_HOURS = 30;
const never = new AbortController().signal;

/** A store whose clock stands until it is moved on, and that counts what it is asked for. */
export class TimedStore extends MemoryObjectStore {
  hours = 0;
  /** keys of objects that were read, whole or in part */
  readonly reads: string[] = [];
  /** keys that lists leave out, as one that comes back short does */
  readonly unlisted = new Set<string>();
  /** Called before each change; what it throws fails the change. */
  onChange: (key: string) => void = () => undefined;

  constructor() {
    super(() => new Date(Date.UTC(2026, 0, 1) + this.hours * 3_600_000));
  }

  override async get(key: string, options?: GetOptions): Promise<Uint8Array> {
    this.reads.push(key);
    return await super.get(key, options);
  }

  override async read(key: string, offset: number, into: Uint8Array, options?: CallOptions): Promise<void> {
    this.reads.push(key);
    await super.read(key, offset, into, options);
  }

  override async put(key: string, body: Uint8Array, options?: CallOptions): Promise<void> {
    this.onChange(key);
    await super.put(key, body, options);
  }

  override async putIfAbsent(key: string, body: Uint8Array, options?: CallOptions): Promise<void> {
    this.onChange(key);
    await super.putIfAbsent(key, body, options);
  }

  override async delete(key: string, options?: CallOptions): Promise<void> {
    this.onChange(key);
    await super.delete(key, options);
  }

  override async *list(prefix: string, options?: ListOptions): AsyncGenerator<ObjectStat, void, undefined> {
    for await (const object of super.list(prefix, options)) if (!this.unlisted.has(object.key)) yield object;
  }

  async keys(prefix: string): Promise<string[]> {
    const keys: string[] = [];
    for await (const { key } of this.list(prefix)) keys.push(key);
    return keys;
  }
}

/** A repository with a machine whose disk changes, and what each of its points must restore to. */
export class PruneLab {
  readonly store = new TimedStore();
  readonly disk = new MemoryDisk("vda", 4096 * KiB);
  readonly contents = new Map<string, Buffer>();
  repository!: Repository;

  static async start(): Promise<PruneLab> {
    const lab = new PruneLab();
    lab.repository = await newRepository(lab.store);
    lab.disk.write(0, randomBytes(2048 * KiB));
    return lab;
  }

  /** A point after so many granules were written anew. */
  async backup(granules = 8, options: TakeOptions = {}): Promise<PointRecord> {
    for (let i = 0; i < granules; i++) {
      const place = randomBytes(1).readUInt8() % 64;
      this.disk.write(place * 64 * KiB, randomBytes(64 * KiB));
    }
    const point = await take(this.repository, [this.disk], { captures: { "domain.xml": randomBytes(2000) }, ...options });
    this.disk.checkpoint();
    this.contents.set(point.id, Buffer.from(this.disk.bytes));
    return point;
  }

  async forget(...points: readonly PointRecord[]): Promise<void> {
    for (const { id } of points) await this.repository.catalog.forget(id);
  }

  async prune(hours: number, options: { readonly dryRun?: boolean } = {}): Promise<PruneReport> {
    this.store.hours += hours;
    return await prune(this.repository, { signal: never, ...options });
  }

  /** Ids of the points that restore as they were taken; rejects where one that is listed does not. */
  async restorable(): Promise<string[]> {
    const { points, unreadable } = await this.repository.catalog.list();
    if (unreadable.length > 0) throw new Error(`cannot be read: ${unreadable.map(({ id }) => id).join(", ")}`);
    for (const point of points) {
      const content = this.contents.get(point.id);
      if (content !== undefined && !(await readDisk(this.repository, point)).equals(content)) throw new Error(`${point.id} restores wrong`);
    }
    return points.map(({ id }) => id);
  }

  async packs(): Promise<string[]> {
    return (await this.store.keys("packs/")).map((key) => key.slice(-32));
  }
}
