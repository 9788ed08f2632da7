import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { DocumentKind } from "../../src/repository/format/constants.ts";
import { openDocument, sealDocument } from "../../src/repository/format/document.ts";
import { BackupSession, Codec, offerHints, type PointRecord, type Repository, similarImages } from "../../src/repository/index.ts";
import { awkward, mutate, mutation, replaceSomewhere } from "./arbitraries.ts";
import { newRepository, restore } from "./harness.ts";
import { MemoryDisk } from "./memory-disk.ts";

const MiB = 1024 * 1024;
const signal = new AbortController().signal;

/** A machine's first backup, as the use case takes it. */
async function first(repository: Repository, vm: string, disk: MemoryDisk): Promise<PointRecord> {
  const lineage = await repository.catalog.lineage(vm, { depth: 1, signal });
  const session = new BackupSession(repository, { vm: { name: vm, uuid: null }, codec: Codec.lz4, signal, lineage });
  try {
    const similar = await similarImages(repository, disk, signal);
    await session.writeDisk(disk, { level: "full", reason: "", base: null, checkpoint: null, imageInfo: null, similar });
    const point = await session.commit({ level: "full", consistency: "offline", warnings: [], tool: { name: "test", version: "0" } });
    await offerHints(repository, point, signal);
    return point;
  } finally {
    await session.close();
  }
}

function clone(of: MemoryDisk, size: number): MemoryDisk {
  const disk = new MemoryDisk("vda", size);
  disk.write(0, of.bytes);
  return disk;
}

test("a machine cloned from the image of another stores what differs, whatever its size, and restores as it is", async () => {
  const repository = await newRepository();
  const golden = new MemoryDisk("vda", 40 * MiB);
  golden.write(2 * MiB, randomBytes(24 * MiB));
  await first(repository, "golden", golden);
  const other = clone(golden, 64 * MiB);
  other.write(50 * MiB, randomBytes(2 * MiB));
  other.write(3 * MiB, randomBytes(65_536));
  const point = await first(repository, "other", other);
  expect(point.disks[0]?.stats.newBytes).toBe(2 * MiB + 65_536);
  expect((await restore(repository, point, "vda")).equals(other.bytes)).toBe(true);
});

test("an unrelated machine is not compared, and lost or damaged hints cost nothing but space", async () => {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store);
  const [one, two] = [new MemoryDisk("vda", 8 * MiB), new MemoryDisk("vda", 8 * MiB)];
  one.write(0, randomBytes(4 * MiB));
  two.write(0, randomBytes(4 * MiB));
  await first(repository, "one", one);
  expect(await similarImages(repository, two, signal)).toEqual([]);
  expect(await similarImages(repository, clone(one, 8 * MiB), signal)).toHaveLength(1);
  await store.put(`hints/${repository.domain}`, Buffer.from("rubbish"));
  expect(await similarImages(repository, clone(one, 8 * MiB), signal)).toEqual([]);
  const point = await first(repository, "two", two);
  expect((await restore(repository, point, "vda")).equals(two.bytes)).toBe(true);
});

test("whatever lies where the hints should, a first backup finds images of real points or none, and leaves good hints behind", async () => {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", 4 * MiB);
  disk.write(0, randomBytes(2 * MiB));
  const point = await first(repository, "one", disk);
  const image = { size: point.disks[0]?.size, root: point.disks[0]?.root };
  const at = `hints/${repository.domain}`;
  const seal = { kind: DocumentKind.hints, key: repository.keys.document, at, encrypted: true };
  const good = Buffer.from(await store.get(at));
  const json = JSON.parse(openDocument(good, seal).toString()) as unknown;
  const spoiled = fc.oneof(
    mutation.map((spoil) => mutate(good, spoil)),
    mutation.map(({ bytes }) => Buffer.from(bytes)),
    mutation.map((spoil) => sealDocument(mutate(Buffer.from(JSON.stringify(json)), spoil), seal)),
    fc.tuple(fc.array(fc.nat(40), { maxLength: 5 }), awkward).map(([path, value]) => sealDocument(textOf(path, value), seal)),
  );
  const textOf = (path: readonly number[], value: unknown): Buffer => {
    const marked = JSON.stringify(replaceSomewhere(json, path, "PLACE"));
    return Buffer.from(marked.replace('"PLACE"', () => flat(value)));
  };
  const found: number[] = [];
  await fc.assert(
    fc.asyncProperty(spoiled, async (bytes) => {
      await store.put(at, bytes);
      const images = await similarImages(repository, disk, signal);
      for (const one of images) expect(one).toMatchObject(image);
      found.push(images.length);
      await offerHints(repository, point, signal);
      expect((await similarImages(repository, disk, signal))[0]).toMatchObject(image);
    }),
    { numRuns: process.env["SOAK"] === "1" ? 5000 : 150 },
  );
  expect(new Set(found).has(0)).toBe(true);
});

test("hints, a head, a point or a marker larger than any can be never stop a backup", async () => {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", 4 * MiB);
  disk.write(0, randomBytes(MiB));
  const point = await first(repository, "one", disk);
  const [vm = ""] = point.id.split("-");
  const huge = Buffer.alloc(65 * MiB);
  for (const at of [`hints/${repository.domain}`, `heads/${vm}`, `points/${vm}/0000000002`]) await store.put(at, huge);
  expect(await similarImages(repository, disk, signal)).toEqual([]);
  const lineage = await repository.catalog.lineage("one", { depth: 1, signal });
  expect([lineage.points.map(({ id }) => id), lineage.nextSeq]).toEqual([[point.id], 3]);
  expect(await repository.catalog.isLive(point.id)).toBe(true);
  await store.put(`forgotten/${vm}/0000000001`, huge);
  expect([await repository.catalog.isLive(point.id), (await repository.catalog.lineage("one", { depth: 1 })).points]).toEqual([false, []]);
  await store.delete(`forgotten/${vm}/0000000001`);
  const { points, unreadable } = await repository.catalog.list();
  expect([points.length, unreadable.map(({ id }) => id)]).toEqual([1, [`${vm}-2`]]);
});

/** JSON of any value; what is nested too deep for that is written by hand. */
function flat(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "null";
  } catch {
    return `${"[".repeat(20_000)}${"]".repeat(20_000)}`;
  }
}
