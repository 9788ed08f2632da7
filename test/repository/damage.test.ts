import { createHash, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { ThinstreamError } from "../../src/lib/errors.ts";
import type { ObjectStore } from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import {
  checkRepository,
  type DamagedRange,
  ImageReader,
  imageOf,
  type PointRecord,
  readCapture,
  Repository,
} from "../../src/repository/index.ts";
import { KEY, MemoryTarget, newRepository, restore, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";

const MiB = 1024 * 1024;
const signal = new AbortController().signal;
const FLIPS = process.env["SOAK"] === "1" ? 3000 : 80;

interface Built {
  readonly store: MemoryObjectStore;
  readonly key: Buffer | null;
  readonly points: readonly PointRecord[];
  readonly contents: readonly Buffer[];
  readonly nvram: Buffer;
  readonly objects: readonly string[];
}

async function build(key: Buffer | null): Promise<Built> {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store, key);
  const disk = new MemoryDisk("vda", 5 * MiB + 4096);
  const nvram = randomBytes(30_000);
  disk.write(0, Buffer.concat([randomBytes(MiB), Buffer.from("compressible ".repeat(40_000))]));
  disk.write(4 * MiB, randomBytes(300_000));
  const points = [await take(repository, [disk], { captures: { nvram } })];
  const contents = [Buffer.from(disk.bytes)];
  disk.checkpoint();
  disk.write(2 * MiB + 8192, randomBytes(400_000));
  points.push(await take(repository, [disk], { captures: { nvram } }));
  contents.push(Buffer.from(disk.bytes));
  const objects: string[] = [];
  for await (const { key: name } of store.list("")) objects.push(name);
  return { store, key, points, contents, nvram, objects };
}

/** Runs `work` while an object is not what it was: null for one that is gone. */
async function whileChanged(
  store: ObjectStore,
  at: string,
  change: (bytes: Buffer) => Buffer | null,
  work: () => Promise<void>,
): Promise<void> {
  const original = Buffer.from(await store.get(at));
  const changed = change(Buffer.from(original));
  if (changed === null) await store.delete(at);
  else await store.put(at, changed);
  try {
    await work();
  } finally {
    await store.put(at, original);
  }
}

function flipped(bit: number): (bytes: Buffer) => Buffer {
  return (bytes) => {
    const place = bit % (bytes.length * 8);
    bytes[place >> 3] = (bytes[place >> 3] ?? 0) ^ (1 << (place & 7));
    return bytes;
  };
}

/** Which points do not come back; a wrong byte that counts as success fails the test. */
async function lostPoints({ store, key, points, contents, nvram }: Built, what: string): Promise<string[]> {
  const lost: string[] = [];
  for (const [i, { id }] of points.entries()) {
    try {
      const repository = await Repository.open({ store, key });
      const point = await repository.catalog.point(id);
      expect((await readDisk(repository, point)).equals(contents[i] as Buffer), `${what}: wrong bytes in ${id}`).toBe(true);
      for (const capture of point.captures) expect((await readCapture(repository, capture)).equals(nvram), what).toBe(true);
    } catch (thrown) {
      if (!(thrown instanceof ThinstreamError)) throw thrown;
      lost.push(id);
    }
  }
  return lost;
}

describe.each([
  ["encrypted", KEY],
  ["plain", null],
])("in an %s repository", (_name, key) => {
  test("no flipped bit, wherever it is, makes a restore succeed with wrong bytes", { timeout: 120_000 }, async () => {
    const built = await build(key);
    let harmful = 0;
    for (let i = 0; i < FLIPS; i++) {
      const at = built.objects[i % built.objects.length] as string;
      const bit = createHash("sha256").update(`${at} ${i}`).digest().readUInt32LE(0);
      const lost: string[] = [];
      await whileChanged(built.store, at, flipped(bit), async () => void lost.push(...(await lostPoints(built, `${at} bit ${bit}`))));
      if (lost.length > 0) harmful++;
    }
    expect(harmful).toBeGreaterThan(FLIPS / 4);
    expect(await lostPoints(built, "put right again")).toEqual([]);
  });

  test(
    "check names what is flipped, cut or missing and every point it touches; the rest comes back by force",
    { timeout: 180_000 },
    async () => {
      const built = await build(key);
      const needed = built.objects.filter((name) => name.startsWith("packs/") || name.startsWith("points/"));
      expect(needed).toHaveLength(6);
      const changes: readonly (readonly [string, (bytes: Buffer) => Buffer | null])[] = [
        ["a flipped bit at its start", flipped(5)],
        ["a flipped bit in its midst", (bytes) => flipped(bytes.length * 4)(bytes)],
        ["its second half cut off", (bytes) => bytes.subarray(0, bytes.length >> 1)],
        ["nothing left of it", (bytes) => bytes.subarray(0, 0)],
        ["its absence", (): null => null],
      ];
      for (const [i, at] of needed.entries()) {
        for (const [j, [how, change]] of changes.entries()) {
          if ((i + j) % 2 === 1 && process.env["SOAK"] !== "1") continue;
          const what = `${at}: ${how}`;
          await whileChanged(built.store, at, change, async () => {
            const lost = await lostPoints(built, what);
            const { findings } = await checkRepository(await Repository.open({ store: built.store, key }), { signal });
            // A point that is gone is no damage that a reader could know of.
            if (at.startsWith("points/") && how === "its absence") return;
            expect(findings.length, what).toBeGreaterThan(0);
            const [, vmId, seq] = at.split("/");
            // A pack is named by its key or, where a capture or node is told of, by its id.
            const name = at.startsWith("points/") ? `point ${vmId}-${Number(seq)}` : at.slice(-32);
            expect(findings.map((finding) => `${finding.what}: ${finding.reason}`).join("\n"), what).toContain(name);
            expect(
              findings.flatMap((finding) => finding.points),
              what,
            ).toEqual(expect.arrayContaining(lost));
            if (at.startsWith("packs/")) await expectRestByForce(built, what);
          });
        }
      }
    },
  );

  test("a missing key, config or head: a typed error or no harm, and never a new key in the old one's place", async () => {
    const built = await build(key);
    const { store } = built;
    await whileChanged(
      store,
      "config",
      () => null,
      async () => {
        await expect(Repository.open({ store, key })).rejects.toMatchObject({ code: "not-a-repository" });
      },
    );
    for (const at of built.objects.filter((name) => name.startsWith("keys/"))) {
      await whileChanged(
        store,
        at,
        () => null,
        async () => {
          await expect(Repository.open({ store, key })).rejects.toMatchObject({ code: "damaged" });
          await expect(store.get(at)).rejects.toMatchObject({ code: "not-found" });
        },
      );
    }
    const head = built.objects.find((name) => name.startsWith("heads/")) as string;
    for (const change of [(): null => null, flipped(200), (): Buffer => Buffer.alloc(0)]) {
      await whileChanged(store, head, change, async () => {
        const lineage = await (await Repository.open({ store, key })).catalog.lineage("vm", { depth: 9 });
        expect(lineage).toMatchObject({ nextSeq: 3, points: [{ seq: 2 }, { seq: 1 }] });
      });
    }
  });
});

/** With damage reported instead of thrown, everything outside the reported ranges is right, on a blank target and on a used one. */
async function expectRestByForce({ store, key, points, contents }: Built, what: string): Promise<void> {
  const repository = await Repository.open({ store, key });
  const reader = new ImageReader(repository);
  try {
    for (const [i, point] of points.entries()) {
      const image = imageOf(point, "vda");
      if (image === null) throw new Error("no disk");
      const target = new MemoryTarget(image.size, i === 0);
      const ranges: DamagedRange[] = [];
      await reader.copy(image, target, { signal, onDamage: (range) => ranges.push(range) });
      const expected = Buffer.from(contents[i] as Buffer);
      for (const { offset, length } of ranges) expected.fill(0, offset, offset + length);
      expect(target.bytes.equals(expected), `${what}: point ${i + 1}`).toBe(true);
      const strict = reader.copy(image, new MemoryTarget(image.size), { signal });
      if (ranges.length > 0) await expect(strict, what).rejects.toBeInstanceOf(ThinstreamError);
      else await strict;
    }
  } finally {
    await reader.close();
  }
}

test("a cut pack costs what is cut off, not what lies before it", async () => {
  const { store, key, points, contents } = await build(KEY);
  const root = points[0]?.disks[0]?.root;
  let at = "";
  for await (const { key: name, size } of store.list("packs/")) if (size > MiB && !name.endsWith(root?.pack ?? "")) at = name;
  await whileChanged(
    store,
    at,
    (bytes) => bytes.subarray(0, 10 * 65_552 + 100),
    async () => {
      const reader = new ImageReader(await Repository.open({ store, key }));
      try {
        const image = imageOf(points[0] ?? null, "vda");
        if (image === null) throw new Error("no disk");
        const target = new MemoryTarget(image.size);
        const ranges: DamagedRange[] = [];
        await reader.copy(image, target, { signal, onDamage: (range) => ranges.push(range) });
        expect(ranges.length).toBeGreaterThan(0);
        expect(target.bytes.subarray(0, 10 * 65_536).equals((contents[0] as Buffer).subarray(0, 10 * 65_536))).toBe(true);
        expect(Math.min(...ranges.map(({ offset }) => offset))).toBe(10 * 65_536);
      } finally {
        await reader.close();
      }
    },
  );
});

test("a damaged newest point stops no backup, keeps its number, and can be forgotten", async () => {
  const { store, key, points, contents } = await build(KEY);
  const at = `points/${(points[1] as PointRecord).id.replace("-", "/000000000")}`;
  await store.put(at, flipped(999)(Buffer.from(await store.get(at))));
  const repository = await Repository.open({ store, key });
  const disk = new MemoryDisk("vda", (contents[1] as Buffer).length);
  disk.write(0, contents[1] as Buffer);
  const next = await take(repository, [disk]);
  expect(next).toMatchObject({ seq: 3, parent: points[0]?.id });
  expect((await restore(repository, next, "vda")).equals(disk.bytes)).toBe(true);
  expect((await repository.catalog.list()).unreadable.map(({ id }) => id)).toEqual([points[1]?.id]);
  await repository.catalog.forget((points[1] as PointRecord).id);
  expect((await checkRepository(repository, { signal })).findings).toEqual([]);
});
