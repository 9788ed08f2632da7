import { randomBytes } from "node:crypto";

import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";

import { CountingObjectStore } from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { type Extent, ImageContent, ImageReader, imageOf, type PointRecord, type Repository } from "../../../src/repository/index.ts";
import { newRepository, take } from "../harness.ts";
import { writeLight } from "../light-writer.ts";
import { MemoryDisk } from "../memory-disk.ts";

const MiB = 1024 * 1024;
const { signal } = new AbortController();
const readers: ImageReader[] = [];
afterEach(async () => {
  for (const reader of readers.splice(0)) await reader.close();
});

function contentOf(repository: Repository, point: PointRecord, before: PointRecord | null): ImageContent {
  const image = imageOf(point, "vda");
  if (image === null) throw new Error("the point has no vda");
  const reader = new ImageReader(repository);
  readers.push(reader);
  return new ImageContent({ repository, reader, name: "vda", image, before: imageOf(before, "vda"), signal });
}

async function all(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const found: Extent[] = [];
  for await (const extent of extents) found.push(extent);
  return found;
}

/** Fails where an extent is not what the disk was before and is now. */
async function prove(content: ImageContent, now: Buffer, before: Buffer): Promise<void> {
  let at = 0;
  for (const { offset, length, state } of await all(content.extents(signal))) {
    expect(offset).toBe(at);
    at += length;
    const bytes = now.subarray(offset, at);
    if (state === "clean") expect(before.subarray(offset, at).equals(bytes)).toBe(true);
    if (state === "zero") expect(bytes.equals(Buffer.alloc(length))).toBe(true);
  }
  expect(at).toBe(now.length);
  const whole = Buffer.alloc(now.length, 0xee);
  await content.read([{ offset: 0, into: whole }], signal);
  expect(whole.equals(now)).toBe(true);
}

describe("the image of a point as a disk", () => {
  test("says what differs from an earlier one, at any size, and reads as the disk was", async () => {
    const write = fc.record({ at: fc.nat(80), length: fc.integer({ min: 1, max: 200_000 }), zero: fc.boolean() });
    const step = fc.record({ size: fc.option(fc.integer({ min: 1, max: 90 })), writes: fc.array(write, { maxLength: 5 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 4 }), async (steps) => {
        const repository = await newRepository(new MemoryObjectStore());
        const disk = new MemoryDisk("vda", 70 * 65_536 + 4096);
        disk.write(0, randomBytes(MiB));
        let [before, last]: [Buffer, PointRecord | null] = [Buffer.alloc(0), null];
        for (const { size, writes } of steps) {
          if (size !== null) disk.resize(size * 65_536 - 512);
          for (const { at, length, zero } of writes) {
            const room = Math.max(0, Math.min(length, disk.size - at * 65_536));
            if (room > 0) disk.write(at * 65_536, zero ? Buffer.alloc(room) : randomBytes(room));
          }
          const point: PointRecord = await take(repository, [disk]);
          await prove(contentOf(repository, point, last), disk.bytes, before);
          [before, last] = [Buffer.from(disk.bytes), point];
        }
      }),
      { numRuns: 12 },
    );
  });

  test("gives the extents of a range, and reads parts of granules", async () => {
    const repository = await newRepository();
    const disk = new MemoryDisk("vda", 8 * MiB);
    disk.write(0, randomBytes(2 * MiB));
    const first = await take(repository, [disk]);
    disk.write(65_536, randomBytes(65_536));
    disk.write(5 * MiB, randomBytes(1));
    const content = contentOf(repository, await take(repository, [disk]), first);
    expect(await all(content.extents(signal, { offset: 0, length: 3 * 65_536 }))).toEqual([
      { offset: 0, length: 65_536, state: "clean" },
      { offset: 65_536, length: 65_536, state: "data" },
      { offset: 131_072, length: 65_536, state: "clean" },
    ]);
    const parts = [
      { offset: 60_000, into: Buffer.alloc(20_000, 1) },
      { offset: 5 * MiB - 7, into: Buffer.alloc(10, 1) },
      { offset: 7 * MiB, into: Buffer.alloc(3, 1) },
    ];
    await content.read(parts, signal);
    for (const { offset, into } of parts) expect(into.equals(disk.bytes.subarray(offset, offset + into.length))).toBe(true);
  });

  test("finds one granule of a terabyte without reading what both maps share", async () => {
    const counting = new CountingObjectStore(new MemoryObjectStore());
    const repository = await newRepository(counting);
    const size = 2 ** 40;
    const places = Array.from({ length: 4096 }, (_, i) => i * 4096);
    const old = await writeLight(repository, null, { size, entries: places.map((granule) => [granule, randomBytes(65_536)] as const) });
    const changed = await writeLight(repository, old, { size, entries: [[4096 * 77, randomBytes(65_536)]] });
    const reader = new ImageReader(repository);
    readers.push(reader);
    const content = new ImageContent({ repository, reader, name: "vda", image: changed, before: old, signal });
    const before = counting.counts.read;
    expect((await all(content.extents(signal))).filter(({ state }) => state !== "clean")).toEqual([
      { offset: 4096 * 77 * 65_536, length: 65_536, state: "data" },
    ]);
    // Five levels of two maps.
    expect(counting.counts.read - before).toBeLessThanOrEqual(10);
  });
});
