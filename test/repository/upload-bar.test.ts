import { describe, expect, test } from "vitest";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { Codec } from "../../src/repository/format/constants.ts";
import { BackupSession, type ImageRoot, imageOf, type PointRecord, type Repository } from "../../src/repository/index.ts";
import { BigDisk, granuleContent, seeded, someGranules } from "./big-disk.ts";
import { newRepository } from "./harness.ts";
import { commitLight, type Entry, writeLight } from "./light-writer.ts";
import { granuleAt } from "./map/node-store.ts";

const GRANULE = 65_536;
const SIZE = 100 * 1024 ** 3;
const GRANULES = SIZE / GRANULE;
const DIRTY = 10_000;
const signal = new AbortController().signal;

/** Keeps map packs and of data packs only the end, which the writer reads back: a run moves 655 MB that nobody reads here. Counts what comes in. */
class ForgetfulStore extends MemoryObjectStore {
  bytesUp = 0;
  readonly #lengths = new Map<string, number>();

  override async putIfAbsent(key: string, body: Uint8Array, options = {}): Promise<void> {
    this.bytesUp += body.length;
    const kept = body.length > 9 * 1024 ** 2 ? body.subarray(-65_536) : body;
    this.#lengths.set(key, body.length - kept.length);
    await super.putIfAbsent(key, kept, options);
  }

  override async read(key: string, offset: number, into: Uint8Array, options = {}): Promise<void> {
    await super.read(key, offset - (this.#lengths.get(key) ?? 0), into, options);
  }
}

/** A map-only run: what a backup of these granules would leave of the map, without the data; references are made up, 512 granules to a pack. */
async function mapRun(repository: Repository, base: ImageRoot | null, granules: Iterable<number>, generation: number): Promise<ImageRoot> {
  let nth = generation * 2_000_000;
  function* entries(): Generator<Entry, void, undefined> {
    for (const granule of granules) yield [granule, granuleAt(nth++)];
  }
  return await writeLight(repository, base, { size: SIZE, entries: entries() });
}

async function incremental(repository: Repository, base: PointRecord, disk: BigDisk): Promise<PointRecord> {
  const lineage = await repository.catalog.lineage("vm", { depth: 1 });
  const session = new BackupSession(repository, { vm: { name: "vm", uuid: null }, codec: Codec.lz4, signal, lineage });
  try {
    await session.writeDisk(disk, { level: "incremental", reason: "", base, checkpoint: null, imageInfo: null, similar: [] });
    return await session.commit({ level: "incremental", consistency: "crash", warnings: [], tool: { name: "test", version: "0" } });
  } finally {
    await session.close();
  }
}

function* all(count: number): Generator<number, void, undefined> {
  for (let i = 0; i < count; i++) yield i;
}

describe.each([
  ["wholly allocated", GRANULES],
  ["5 % allocated, at random", GRANULES / 20],
])("a thin disk of 100 GiB, %s", (name, allocated) => {
  test.each([0, 20])(
    "10,000 random dirty granules after %i such incrementals upload at most 1.05 of what is dirty",
    { timeout: 300_000 },
    async (history) => {
      const random = seeded(7);
      const store = new ForgetfulStore();
      const repository = await newRepository(store);
      let image = await mapRun(repository, null, allocated === GRANULES ? all(GRANULES) : someGranules(allocated, GRANULES, random), 0);
      for (let run = 1; run <= history; run++) image = await mapRun(repository, image, someGranules(DIRTY, GRANULES, random), run);
      // The last granule that counts as unchanged is read and compared, so it must be one that the disk really has.
      const last: Entry = [GRANULES - 1, granuleContent(0, SIZE - GRANULE)];
      image = await writeLight(repository, image, { size: SIZE, entries: [last] });
      const base = await commitLight(repository, image);
      const before = store.bytesUp;
      const dirty = someGranules(DIRTY, GRANULES - 1, random);
      const point = await incremental(repository, base, new BigDisk(SIZE, dirty, 1));
      const stats = (point.disks[0] as PointRecord["disks"][number]).stats;
      const dirtyBytes = DIRTY * GRANULE;
      const sent = store.bytesUp - before;
      const ratio = (stats.newBytes + stats.mapBytes) / dirtyBytes;
      process.stderr.write(
        `100 GiB ${name}, history ${history}: dirty ${dirtyBytes}, new ${stats.newBytes}, map ${stats.mapBytes}: ${ratio.toFixed(4)}; sent ${sent}: ${(sent / dirtyBytes).toFixed(4)}\n`,
      );
      expect(stats).toMatchObject({ dirtyBytes, newBytes: dirtyBytes, readBytes: dirtyBytes });
      expect(ratio).toBeLessThanOrEqual(1.05);
      expect(sent / dirtyBytes).toBeLessThanOrEqual(1.05);
      expect(imageOf(point, "vda")?.root).not.toEqual(image.root);

      // The same again, as a guest that rewrites what it had: read, and nothing sent but the point itself.
      const again = await incremental(repository, point, new BigDisk(SIZE, dirty.slice(0, 500), 1));
      expect(again.disks[0]?.stats).toMatchObject({ dirtyBytes: 500 * GRANULE, newBytes: 0, uploadedBytes: 0, mapBytes: 0 });
      expect(imageOf(again, "vda")).toEqual(imageOf(point, "vda"));
      expect(store.bytesUp - before - sent).toBeLessThan(4096);
    },
  );
});
