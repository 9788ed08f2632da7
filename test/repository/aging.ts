import { randomBytes } from "node:crypto";
import { expect } from "vitest";

import { type PointRecord, prune, type PruneReport, type Repository } from "../../src/repository/index.ts";
import { seeded } from "./big-disk.ts";
import { newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { TimedStore } from "./prune/lab.ts";

export const GRANULE = 65_536;
const { signal } = new AbortController();

/** A machine whose disk is written for ever, and of which the newest points are kept. */
export class Aging {
  readonly store = new TimedStore();
  readonly disk: MemoryDisk;
  /** The same places each time. */
  readonly #random = seeded(3);
  /** those that are kept, and what they must restore to */
  readonly points: { readonly point: PointRecord; readonly bytes: Buffer }[] = [];
  repository!: Repository;

  /** whether what changed is known, or all is read each time */
  tracks = true;

  private constructor(granules: number) {
    this.disk = new MemoryDisk("vda", granules * GRANULE);
  }

  /** @param content of each granule at first */
  static async start(granules: number, content: (place: number) => Buffer = () => randomBytes(GRANULE)): Promise<Aging> {
    const lab = new Aging(granules);
    for (let place = 0; place < granules; place++) lab.disk.write(place * GRANULE, content(place));
    lab.repository = await newRepository(lab.store);
    return lab;
  }

  /** Writes granules anew, the first so many of the disk or as many anywhere, and backs up. */
  async backup(granules: number, where: "first" | "anywhere" = "anywhere"): Promise<PointRecord> {
    for (let i = 0; i < granules; i++) {
      const place = where === "first" ? i : Math.floor(this.#random() * (this.disk.size / GRANULE));
      this.disk.write(place * GRANULE, randomBytes(GRANULE));
    }
    const point = await take(this.repository, [this.disk]);
    if (this.tracks) this.disk.checkpoint();
    this.points.push({ point, bytes: Buffer.from(this.disk.bytes) });
    return point;
  }

  /** Forgets all but the newest. */
  async keepLast(count: number): Promise<void> {
    for (const { point } of this.points.splice(0, Math.max(0, this.points.length - count))) await this.repository.catalog.forget(point.id);
  }

  /** A prune, so late that what lies in the store is old to it. */
  async prune(options: { readonly dryRun?: boolean } = {}): Promise<PruneReport> {
    this.store.hours += 31;
    return await prune(this.repository, { signal, ...options });
  }

  /** Bytes of all packs over those of the disk. */
  async storedShare(): Promise<number> {
    let sum = 0;
    for await (const { size } of this.store.list("packs/")) sum += size;
    return sum / this.disk.size;
  }

  async expectWhole(): Promise<void> {
    for (const { point, bytes } of this.points) expect((await readDisk(this.repository, point)).equals(bytes), point.id).toBe(true);
  }
}
