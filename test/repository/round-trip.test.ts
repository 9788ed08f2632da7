import { randomBytes } from "node:crypto";

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { checkRepository, Codec, readCapture, Repository } from "../../src/repository/index.ts";
import { KEY, newRepository, restore, take } from "./harness.ts";
import { MemoryDisk } from "./memory-disk.ts";

const MiB = 1024 * 1024;
const signal = new AbortController().signal;

describe.each([
  ["encrypted", KEY],
  ["plain", null],
])("a %s repository", (_name, key) => {
  test("gives back every point as the disk was then", async () => {
    const repository = await newRepository(new MemoryObjectStore(), key);
    const disk = new MemoryDisk("vda", 70 * MiB + 12_288);
    disk.write(3 * MiB + 4096, randomBytes(9 * MiB));
    disk.write(60 * MiB, Buffer.from("text ".repeat(MiB)));
    const copies = [Buffer.from(disk.bytes)];
    const points = [await take(repository, [disk])];
    for (let round = 0; round < 6; round++) {
      disk.checkpoint();
      disk.write(round * 5 * MiB + 8192, randomBytes(300_000));
      disk.write((round + 2) * MiB, Buffer.alloc(MiB + 4096));
      disk.write(disk.size - 4096, randomBytes(4096));
      copies.push(Buffer.from(disk.bytes));
      points.push(await take(repository, [disk]));
    }
    for (const [i, point] of points.entries()) {
      expect((await restore(repository, point, "vda", i % 2 === 0)).equals(copies[i] as Buffer), `point ${i}`).toBe(true);
    }
    expect((await checkRepository(repository, { signal })).findings).toEqual([]);
  });
});

test("data rewritten as it was uploads nothing but the map", async () => {
  const repository = await newRepository();
  const disk = new MemoryDisk("vda", 16 * MiB);
  disk.write(0, randomBytes(16 * MiB));
  await take(repository, [disk]);
  disk.checkpoint();
  disk.write(2 * MiB, Buffer.from(disk.bytes.subarray(2 * MiB, 6 * MiB)));
  const { stats } = (await take(repository, [disk])).disks[0] as {
    stats: { newBytes: number; uploadedBytes: number; mapBytes: number; dirtyBytes: number };
  };
  expect(stats).toMatchObject({ dirtyBytes: 4 * MiB, newBytes: 0, uploadedBytes: 0, mapBytes: 0 });
});

test("a lost bitmap costs reads, not uploads", async () => {
  const repository = await newRepository();
  const disk = new MemoryDisk("vda", 16 * MiB);
  disk.write(0, randomBytes(16 * MiB));
  await take(repository, [disk]);
  disk.write(MiB, randomBytes(65_536));
  const point = await take(repository, [disk]);
  expect(point.disks[0]?.stats).toMatchObject({ readBytes: 16 * MiB, newBytes: 65_536 });
  expect((await restore(repository, point, "vda")).equals(disk.bytes)).toBe(true);
});

test("a disk that grows, shrinks and grows again restores at each size", async () => {
  const repository = await newRepository();
  const disk = new MemoryDisk("vda", 3 * MiB + 4096);
  disk.write(0, randomBytes(disk.size));
  await take(repository, [disk]);
  for (const size of [70 * MiB, MiB + 20_480, 5 * MiB]) {
    disk.checkpoint();
    disk.resize(size);
    const point = await take(repository, [disk]);
    expect((await restore(repository, point, "vda", false)).equals(disk.bytes), `${size}`).toBe(true);
  }
});

test("whatever a disk loses without a dirty bit by shrinking and growing is lost in the next point", async () => {
  const step = fc.record({
    keep: fc.oneof(fc.constant(null), fc.integer({ min: 1, max: 64 * 16 })),
    writes: fc.array(fc.record({ at: fc.nat(63), length: fc.integer({ min: 1, max: 40_000 }), zero: fc.boolean() }), { maxLength: 6 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 5 }), async (steps) => {
      const repository = await newRepository();
      const disk = new MemoryDisk("vda", 4 * MiB);
      disk.write(0, randomBytes(2 * MiB));
      disk.write(3 * MiB, randomBytes(65_536));
      await take(repository, [disk]);
      for (const { keep, writes } of steps) {
        disk.checkpoint();
        // Sectors: a disk may end anywhere in a granule.
        if (keep !== null) disk.resize(keep * 4096);
        if (keep !== null) disk.resize(4 * MiB);
        for (const { at, length, zero } of writes) disk.write(at * 65_536, zero ? Buffer.alloc(length) : randomBytes(length));
        const point = await take(repository, [disk]);
        expect((await restore(repository, point, "vda", false)).equals(disk.bytes)).toBe(true);
      }
    }),
    { numRuns: process.env["SOAK"] === "1" ? 300 : 8 },
  );
});

test("zeros cost nothing and dirty zeros are restored as zeros", async () => {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", 40 * 1024 * MiB === 0 ? 0 : 64 * MiB);
  disk.write(0, randomBytes(8 * MiB));
  await take(repository, [disk]);
  disk.checkpoint();
  disk.write(0, Buffer.alloc(8 * MiB));
  const point = await take(repository, [disk]);
  expect(point.disks[0]).toMatchObject({ root: null, stats: { newBytes: 0, zeroBytes: 8 * MiB } });
  expect((await restore(repository, point, "vda", false)).equals(disk.bytes)).toBe(true);
});

test.each([Codec.none, Codec.lz4, Codec.zstd])("codec %i gives back what went in", async (codec) => {
  const repository = await newRepository();
  const disk = new MemoryDisk("vda", 4 * MiB);
  disk.write(0, Buffer.concat([randomBytes(MiB), Buffer.from("compressible ".repeat(100_000))]));
  const point = await take(repository, [disk], { codec });
  expect((await restore(repository, point, "vda")).equals(disk.bytes)).toBe(true);
});

test("captures come back, disks of one VM share what they have in common", async () => {
  const repository = await newRepository();
  const [one, two] = [new MemoryDisk("vda", 8 * MiB), new MemoryDisk("vdb", 8 * MiB)];
  const data = randomBytes(4 * MiB);
  one.write(0, data);
  two.write(2 * MiB, data);
  const nvram = randomBytes(2 * MiB + 17);
  const point = await take(repository, [one, two], { captures: { nvram, "domain.xml": Buffer.from("<domain/>") } });
  const capture = point.captures.find(({ name }) => name === "nvram");
  expect((await readCapture(repository, capture as NonNullable<typeof capture>)).equals(nvram)).toBe(true);
  expect((point.disks[0]?.stats.newBytes ?? 0) + (point.disks[1]?.stats.newBytes ?? 0)).toBeLessThan(5 * MiB);
  expect((await restore(repository, point, "vdb")).equals(two.bytes)).toBe(true);
});

test("a second backup of the VM that commits first makes the other fail, and nothing else", async () => {
  const repository = await newRepository();
  const disk = new MemoryDisk("vda", MiB);
  disk.write(0, randomBytes(MiB));
  const results = await Promise.allSettled([take(repository, [disk]), take(repository, [disk])]);
  expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  expect(results.find((one) => one.status === "rejected")).toMatchObject({ reason: { code: "commit-lost" } });
  expect((await repository.catalog.list()).points).toHaveLength(1);
});

test("a forgotten point leaves the list, its number stays taken and the others stay whole", async () => {
  const repository = await newRepository();
  const disk = new MemoryDisk("vda", MiB);
  const ids: string[] = [];
  for (let i = 0; i < 3; i++) {
    disk.write(0, randomBytes(65_536));
    ids.push((await take(repository, [disk])).id);
  }
  await repository.catalog.forget(ids[2] as string);
  expect((await repository.catalog.list()).points.map(({ id }) => id)).toEqual(ids.slice(0, 2));
  expect((await take(repository, [disk])).seq).toBe(4);
  expect((await repository.catalog.list({ vm: "vm" })).points.map(({ seq }) => seq)).toEqual([1, 2, 4]);
});

test("a wrong key, no key and a key for a plain repository are told apart", async () => {
  const [encrypted, plain] = [new MemoryObjectStore(), new MemoryObjectStore()];
  await newRepository(encrypted);
  await newRepository(plain, null);
  await expect(Repository.open({ store: encrypted, key: Buffer.alloc(32, 8) })).rejects.toMatchObject({ code: "wrong-key" });
  await expect(Repository.open({ store: encrypted, key: null })).rejects.toMatchObject({ code: "wrong-key" });
  await expect(Repository.open({ store: plain, key: KEY })).rejects.toMatchObject({ code: "wrong-key" });
  await expect(Repository.open({ store: new MemoryObjectStore(), key: KEY })).rejects.toMatchObject({ code: "not-a-repository" });
  await expect(newRepository(encrypted)).rejects.toMatchObject({ code: "already-a-repository" });
});
