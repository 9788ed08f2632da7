import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { ThinstreamError } from "../../src/lib/errors.ts";
import { type Fault, FaultyObjectStore, type ObjectStore, RetryingObjectStore } from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { checkRepository, Repository } from "../../src/repository/index.ts";
import { KEY, newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";

const KiB = 1024;
const signal = new AbortController().signal;
const LIMIT = 20_000;
/** Every this many of the points are also read by a check: it starts threads, and there are many points. */
const SOAK = process.env["SOAK"] === "1";
const CHECK_EVERY = SOAK ? 1 : 8;

const faults: readonly (readonly [string, Fault])[] = [
  ["fails before it is done", { kind: "error-before", code: "unavailable" }],
  ["is done and the answer lost", { kind: "error-after", code: "timeout" }],
  ["gives or takes half", { kind: "truncate", keep: 0.5 }],
  ...(SOAK ? [["is refused", { kind: "error-before", code: "access-denied" }] as const] : []),
];

interface Bench {
  readonly store: MemoryObjectStore;
  readonly disk: MemoryDisk;
  readonly before: Buffer;
}

/** A repository with one point, and a disk that has changed since. */
async function bench(): Promise<Bench> {
  const store = new MemoryObjectStore();
  const disk = new MemoryDisk("vda", 512 * KiB);
  disk.write(0, randomBytes(200 * KiB));
  await take(await newRepository(store), [disk]);
  const before = Buffer.from(disk.bytes);
  disk.checkpoint();
  disk.write(64 * KiB, randomBytes(100 * KiB));
  return { store, disk, before };
}

async function copyOf(store: ObjectStore): Promise<MemoryObjectStore> {
  const copy = new MemoryObjectStore();
  for await (const { key } of store.list("")) await copy.put(key, await store.get(key));
  return copy;
}

async function attempt(store: ObjectStore, disk: MemoryDisk): Promise<unknown> {
  const limit = AbortSignal.timeout(LIMIT);
  try {
    const repository = await Repository.open({ store, key: KEY });
    return await Promise.race([
      take(repository, [disk], { signal: limit, captures: { nvram: Buffer.alloc(2000, 1) } }),
      new Promise((_resolve, reject) => limit.addEventListener("abort", () => reject(new Error("the backup hangs")))),
    ]);
  } catch (thrown) {
    return thrown;
  }
}

describe.each(faults)("any one store operation of a backup that %s", (_name, fault) => {
  test("ends in a point that restores or in a typed error, and the next backup is right", { timeout: 240_000 }, async () => {
    const original = await bench();
    let committed = 0;
    let refused = 0;
    for (let ordinal = 1; ; ordinal++) {
      const inner = await copyOf(original.store);
      const faulty = new FaultyObjectStore(inner, [{ ordinals: [ordinal], fault }]);
      const outcome = await attempt(faulty, original.disk);
      if (faulty.injected.length === 0) break;
      const what = faulty.injected.map(({ operation, key }) => `${operation} ${key}`).join();
      if (outcome instanceof Error) {
        expect(outcome, what).toBeInstanceOf(ThinstreamError);
        refused++;
      } else {
        committed++;
        const id = (outcome as { readonly id: string }).id;
        expect(
          (await (await Repository.open({ store: inner, key: KEY })).catalog.list()).points.map((point) => point.id),
          what,
        ).toContain(id);
      }
      await expectSound(inner, original, `ordinal ${ordinal}: ${what}`);
      if (ordinal % CHECK_EVERY === 0) await expectClean(inner, what);
    }
    process.stderr.write(`store operation ${_name}: ${committed} backups committed, ${refused} ended in a typed error\n`);
    expect(committed + refused).toBeGreaterThan(10);
    expect(refused).toBeGreaterThan(0);
  });
});

/** Every visible point restores to what the disk was, save one whose own document the store cut in half; and the next backup is right. */
async function expectSound(store: MemoryObjectStore, { disk, before }: Bench, what: string): Promise<void> {
  const repository = await Repository.open({ store, key: KEY });
  const { points, unreadable } = await repository.catalog.list();
  expect(points.length, what).toBeGreaterThanOrEqual(1);
  expect(unreadable.length, what).toBe(what.includes("putIfAbsent points/") ? unreadable.length : 0);
  for (const point of points) expect((await readDisk(repository, point)).equals(point.seq === 1 ? before : disk.bytes), what).toBe(true);
  const next = await take(repository, [disk]);
  expect(next.seq, what).toBe(points.length + unreadable.length + 1);
  expect((await readDisk(repository, next)).equals(disk.bytes), what).toBe(true);
}

async function expectClean(store: MemoryObjectStore, what: string): Promise<void> {
  const { findings } = await checkRepository(await Repository.open({ store, key: KEY }), { signal });
  expect(
    findings.filter(({ what: name }) => !name.startsWith("point ")),
    what,
  ).toEqual([]);
}

test("with retries above it, no single failure is seen at all", { timeout: 240_000 }, async () => {
  const original = await bench();
  for (let ordinal = 1; ; ordinal += 2) {
    const inner = await copyOf(original.store);
    const fault: Fault = { kind: ordinal % 4 === 1 ? "error-before" : "error-after", code: "unavailable" };
    const faulty = new FaultyObjectStore(inner, [{ ordinals: [ordinal], fault }]);
    const outcome = await attempt(new RetryingObjectStore(faulty, { baseDelay: 1 }), original.disk);
    if (faulty.injected.length === 0) break;
    expect(outcome, JSON.stringify(faulty.injected)).toMatchObject({ seq: 2 });
  }
});

test("a backup that is told to stop stops, and leaves nothing visible", async () => {
  const { store, disk } = await bench();
  const faulty = new FaultyObjectStore(store, [{ operations: ["putIfAbsent"], fault: { kind: "delay", milliseconds: 60_000 } }]);
  const repository = await Repository.open({ store: faulty, key: KEY });
  const stop = new AbortController();
  const backup = take(repository, [disk], { signal: stop.signal });
  setTimeout(() => stop.abort(new Error("told to stop")), 1500);
  await expect(backup).rejects.toThrow("told to stop");
  expect((await repository.catalog.list()).points).toHaveLength(1);
});
