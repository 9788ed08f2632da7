import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { checkRepository, type PointRecord, prune, type PruneReport, type Repository } from "../../src/repository/index.ts";
import { newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { packsNeeded } from "./packs-needed.ts";
import { TimedStore } from "./prune/lab.ts";

const MiB = 2 ** 20;
const GRANULE = 65_536;
const { signal } = new AbortController();

/** A machine whose disk is written at random for ever, of which the newest points are kept. */
class Aging {
  readonly store = new TimedStore();
  readonly disk: MemoryDisk;
  readonly points: { readonly point: PointRecord; readonly bytes: Buffer }[] = [];
  repository!: Repository;

  constructor(size: number) {
    this.disk = new MemoryDisk("vda", size);
    this.disk.write(0, randomBytes(size));
  }

  static async start(size: number): Promise<Aging> {
    const lab = new Aging(size);
    lab.repository = await newRepository(lab.store);
    return lab;
  }

  /** Writes so many granules anew and backs up. */
  async backup(granules: number): Promise<PointRecord> {
    for (let i = 0; i < granules; i++) {
      const place = Math.floor((randomBytes(4).readUInt32LE() / 2 ** 32) * (this.disk.size / GRANULE));
      this.disk.write(place * GRANULE, randomBytes(GRANULE));
    }
    const point = await take(this.repository, [this.disk]);
    this.disk.checkpoint();
    this.points.push({ point, bytes: Buffer.from(this.disk.bytes) });
    return point;
  }

  /** Forgets all but the newest. */
  async keepLast(count: number): Promise<void> {
    for (const { point } of this.points.splice(0, Math.max(0, this.points.length - count)))
      await this.repository.catalog.forget(point.id);
  }

  async prune(): Promise<PruneReport> {
    this.store.hours += 31;
    return await prune(this.repository, { signal });
  }

  async storedBytes(): Promise<number> {
    let sum = 0;
    for await (const { size } of this.store.list("packs/")) sum += size;
    return sum;
  }

  async expectWhole(): Promise<void> {
    for (const { point, bytes } of this.points) expect((await readDisk(this.repository, point)).equals(bytes), point.id).toBe(true);
  }
}

describe("packs of which little is needed", () => {
  test("a disk written at random", { timeout: 600_000 }, async () => {
    for (const isOn of [false, true]) {
      const lab = await Aging.start(24 * MiB);
      const sizes: number[] = [];
      let compacted = 0;
      for (let round = 0; round < 100; round++) {
        const point = await lab.backup(19);
        compacted += point.disks[0]!.stats.compactedBytes;
        await lab.keepLast(3);
        const report = await lab.prune();
        if (!isOn) for (const key of await lab.store.keys("sparse/")) await lab.store.delete(key);
        sizes.push((await lab.storedBytes()) / lab.disk.size);
        if (round % 10 === 9) console.log(isOn, round, sizes.at(-1)!.toFixed(2), report.packs.stored, JSON.stringify(report.sparse), (compacted / MiB).toFixed(1), (await packsNeeded(lab.repository)).size);
      }
      await lab.expectWhole();
      expect((await checkRepository(lab.repository, { signal })).findings).toEqual([]);
    }
  });
});
