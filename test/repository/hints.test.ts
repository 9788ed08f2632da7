import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { BackupSession, Codec, offerHints, type PointRecord, type Repository, similarImages } from "../../src/repository/index.ts";
import { newRepository, restore } from "./harness.ts";
import { MemoryDisk } from "./memory-disk.ts";

const MiB = 1024 * 1024;
const signal = new AbortController().signal;

/** A machine's first backup, as the use case takes it. */
async function first(repository: Repository, vm: string, disk: MemoryDisk): Promise<PointRecord> {
  const lineage = await repository.catalog.lineage(vm, { depth: 1, signal });
  const session = await BackupSession.begin(repository, { vm: { name: vm, uuid: null }, codec: Codec.lz4, signal, lineage });
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
