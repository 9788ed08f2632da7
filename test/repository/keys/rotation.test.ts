import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { ThinstreamError } from "../../../src/lib/errors.ts";
import { type Fault, type FaultRule, FaultyObjectStore, type ObjectStore } from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { encodeConfig } from "../../../src/repository/format/config.ts";
import { DocumentKind } from "../../../src/repository/format/constants.ts";
import { openDocument } from "../../../src/repository/format/document.ts";
import { keyIdOf, repositoryKeys } from "../../../src/repository/format/keys.ts";
import { type Credential, type KeyRing, LocalKeyWrap, Repository } from "../../../src/repository/index.ts";
import { KEY, newRepository, take } from "../harness.ts";
import { readDisk } from "../light-reader.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { HookedStore } from "./hooked-store.ts";
import { resummed, withRing } from "./rings.ts";

const NEW = Buffer.alloc(32, 21);
const NEWER = Buffer.alloc(32, 22);
const FILE = Buffer.alloc(32, 9);
const service = new LocalKeyWrap(Buffer.alloc(32, 3));
const PATIENCE = { timeout: 240_000 };

interface Bench {
  readonly store: MemoryObjectStore;
  readonly id: Buffer;
  readonly disk: MemoryDisk;
}

/** A repository with a point, and another key file that opens it. */
async function bench(): Promise<Bench> {
  const store = new MemoryObjectStore();
  const disk = new MemoryDisk("vda", 256 * 1024);
  disk.write(4096, randomBytes(100_000));
  const repository = await newRepository(store);
  await take(repository, [disk]);
  await withRing({ store, key: KEY }, async (ring) => await ring.add(FILE, "alice"));
  return { store, id: repository.config.id, disk };
}

async function copyOf(store: ObjectStore): Promise<MemoryObjectStore> {
  const copy = new MemoryObjectStore();
  for await (const { key } of store.list("")) await copy.put(key, await store.get(key));
  return copy;
}

async function rotate(store: ObjectStore, from: Credential = KEY, to: Buffer = NEW): Promise<unknown> {
  return await withRing(
    { store, key: from },
    async (ring: KeyRing) => await ring.rotate({ key: to, slot: { credential: service, label: "" } }),
  );
}

async function opens(store: ObjectStore, key: Credential): Promise<boolean> {
  try {
    await Repository.open({ store, key });
    return true;
  } catch (thrown) {
    expect(thrown).toMatchObject({ name: "FormatError", code: "wrong-key" });
    return false;
  }
}

/** All points are there and read as the disk was. */
async function expectWhole(store: ObjectStore, key: Credential, { disk }: Bench, points = 1): Promise<void> {
  const repository = await Repository.open({ store, key });
  const listing = await repository.catalog.list();
  expect(listing.unreadable).toEqual([]);
  expect(listing.points).toHaveLength(points);
  for (const point of listing.points) expect((await readDisk(repository, point)).equals(disk.bytes)).toBe(true);
}

/** Nothing in the store is sealed under the key, as a thief sees it who goes by no rule. */
async function expectUseless(store: ObjectStore, key: Buffer, id: Buffer): Promise<void> {
  let looked = 0;
  for await (const { key: at } of store.list("keys/")) {
    const bytes = await store.get(at);
    const seal = { kind: DocumentKind.domainKey, key: repositoryKeys(key, id).document, at, encrypted: true };
    expect(() => openDocument(bytes, seal)).toThrow("sealed under another key");
    looked++;
  }
  expect(looked).toBeGreaterThan(0);
  for await (const { key: at } of store.list("slots/")) expect(Buffer.from(await store.get(at)).toString()).not.toContain(keyIdOf(key, id));
}

test("the new key opens what the old one did, which opens nothing any more; data and config are as they were", async () => {
  const at = await bench();
  const before = await copyOf(at.store);
  expect(await rotate(at.store)).toMatchObject({ domains: 1, removedSlots: [keyIdOf(FILE, at.id)], keptSlots: [] });
  await expectWhole(at.store, NEW, at);
  await expectWhole(at.store, service, at);
  await expect(Repository.open({ store: at.store, key: KEY })).rejects.toMatchObject({
    code: "wrong-key",
    message: expect.stringContaining("was replaced") as string,
  });
  expect(await opens(at.store, FILE)).toBe(false);
  expect(await opens(at.store, Buffer.alloc(32, 99))).toBe(false);
  await expectUseless(at.store, KEY, at.id);
  for await (const { key } of before.list("")) {
    if (/^(?:keys|slots)\//.test(key)) continue;
    expect(Buffer.from(await at.store.get(key)).equals(await before.get(key)), key).toBe(true);
  }
  await take(await Repository.open({ store: at.store, key: NEW }), [at.disk]);
  await expectWhole(at.store, NEW, at, 2);
});

const dead = (from: number): number[] => Array.from({ length: 200 }, (_, i) => from + i);
const faults: readonly (readonly [string, (step: number) => FaultRule])[] = [
  ["fails", (step) => ({ ordinals: [step], fault: { kind: "error-before", code: "unavailable" } })],
  ["is done and its answer lost", (step) => ({ ordinals: [step], fault: { kind: "error-after", code: "timeout" } })],
  ["is the last that is done", (step) => ({ ordinals: dead(step + 1), fault: { kind: "error-before", code: "unavailable" } })],
  [
    "is done, its answer lost, and none after it",
    (step) => ({ ordinals: dead(step), fault: { kind: "error-before", code: "unavailable" } }),
  ],
];

describe.each(faults)("a rotation any one step of which %s", (name, ruleAt) => {
  test("leaves a repository that one of the two keys opens, and can be done to its end", PATIENCE, async () => {
    const original = await bench();
    const seen = { before: 0, after: 0 };
    for (let step = 1; ; step++) {
      const inner = await copyOf(original.store);
      const rules = [ruleAt(step)];
      // The step itself is done there, though nobody hears of it.
      if (name.startsWith("is done, its")) rules.unshift({ ordinals: [step], fault: { kind: "error-after", code: "timeout" } });
      const faulty = new FaultyObjectStore(inner, rules);
      const outcome = await rotate(faulty).catch((thrown: unknown) => thrown);
      if (faulty.injected.length === 0) break;
      const [old, now] = [await opens(inner, KEY), await opens(inner, NEW)];
      const what = `${step}: ${faulty.injected[0]?.operation} ${faulty.injected[0]?.key}, ${String(outcome)}`;
      expect([old, now].filter(Boolean), what).toHaveLength(1);
      expectTold(outcome, now, what);
      seen[now ? "after" : "before"]++;
      await expectWhole(inner, now ? NEW : KEY, original);
      if (now) await withRing({ store: inner, key: NEW }, async (ring) => await ring.endRotation());
      else await rotate(inner);
      await expectWhole(inner, NEW, original);
      await expectWhole(inner, service, original);
      await expectUseless(inner, KEY, original.id);
    }
    expect(seen.before).toBeGreaterThan(4);
    expect(seen.after).toBeGreaterThan(3);
  });
});

/** What the one who rotates was told is what is so: a new key that may count is never thrown away. */
function expectTold(outcome: unknown, now: boolean, what: string): void {
  if (!(outcome instanceof Error)) return expect(now, what).toBe(true);
  expect(outcome, what).toBeInstanceOf(ThinstreamError);
  const { code } = outcome as ThinstreamError;
  if (code === "rotation-unfinished") expect(now, what).toBe(true);
  else if (code !== "rotation-unknown") expect(now, what).toBe(false);
}

test("a domain key that the store took in half is put again before anything else is done", async () => {
  const at = await bench();
  const half: Fault = { kind: "truncate", keep: 0.5 };
  await rotate(new FaultyObjectStore(at.store, [{ operations: ["put"], key: /^keys\//, ordinals: [1, 2], fault: half }]));
  await expectWhole(at.store, NEW, at);
});

test("credentials that may not delete rotate all the same, and are told which slots stayed", async () => {
  const at = await bench();
  const faulty = new FaultyObjectStore(at.store, [{ operations: ["delete"], fault: { kind: "error-before", code: "access-denied" } }]);
  expect(await rotate(faulty)).toMatchObject({ removedSlots: [], keptSlots: [keyIdOf(FILE, at.id)] });
  await expectWhole(at.store, NEW, at);
  await expect(Repository.open({ store: at.store, key: FILE })).rejects.toMatchObject({
    code: "wrong-key",
    message: expect.stringContaining("until its key was replaced") as string,
  });
  const slots = await withRing({ store: at.store, key: NEW }, async (ring) => await ring.list());
  expect(slots.find(({ label }) => label === "alice")).toMatchObject({ state: "replaced" });
});

test(
  "of two rotations at once one counts, wherever the other comes in between, and the other is told that it does not",
  PATIENCE,
  async () => {
    const original = await bench();
    for (let step = 1, done = false; !done; step++) {
      const store = await copyOf(original.store);
      done = true;
      const hooked = new HookedStore(store, async (ordinal) => {
        if (ordinal !== step) return;
        done = false;
        // After the switch of the first, the old key does not rotate any more.
        await rotate(store, (await opens(store, KEY)) ? KEY : NEW, NEWER);
      });
      const outcome = await rotate(hooked).catch((thrown: unknown) => thrown);
      if (done) break;
      const [old, now, newer] = [await opens(store, KEY), await opens(store, NEW), await opens(store, NEWER)];
      expect([old, now, newer], `step ${step}: ${String(outcome)}`).toEqual([false, false, true]);
      if (outcome instanceof Error)
        expect(outcome).toMatchObject({ code: expect.stringMatching(/^(?:rotation-(?:lost|unfinished)|wrong-key)$/) as string });
      await withRing({ store, key: NEWER }, async (ring) => await ring.endRotation());
      await expectWhole(store, NEWER, original);
      await expectUseless(store, KEY, original.id);
      await expectUseless(store, NEW, original.id);
    }
  },
);

describe.each([
  ["with", true],
  ["without", false],
])("a backup into a repository %s a domain key, at any step of a rotation", (_name, hasDomain) => {
  async function start(): Promise<Bench> {
    if (hasDomain) return await bench();
    const store = new MemoryObjectStore();
    // As an init leaves it that died right after its config.
    const id = randomBytes(16);
    await store.put("config", encodeConfig({ version: 1, id, created: "2026-01-02T03:04:05.000Z", encrypted: true }, KEY));
    const disk = new MemoryDisk("vda", 256 * 1024);
    disk.write(0, randomBytes(100_000));
    return { store, id, disk };
  }
  const before = hasDomain ? 1 : 0;

  test.each([
    ["old", KEY],
    ["new", NEW],
  ])("with the %s key commits or fails cleanly, and what it committed is there", PATIENCE, async (_which, key) => {
    const original = await start();
    const counts = { committed: 0, refused: 0 };
    for (let step = 1, done = false; !done; step++) {
      const store = await copyOf(original.store);
      done = true;
      let points = before;
      const hooked = new HookedStore(store, async (ordinal) => {
        if (ordinal !== step) return;
        done = false;
        const outcome = await backUp(store, key, original.disk);
        counts[outcome === null ? "committed" : "refused"]++;
        if (outcome === null) points++;
        else expect(outcome).toMatchObject({ code: "wrong-key" });
      });
      await rotate(hooked);
      await withRing({ store, key: NEW }, async (ring) => await ring.endRotation());
      await expectWhole(store, NEW, original, points);
      await expectUseless(store, KEY, original.id).catch((thrown: unknown) => {
        // An empty repository has no domain key yet that could be sealed.
        if (points > 0) throw thrown;
      });
    }
    expect(counts.committed).toBeGreaterThan(2);
    expect(counts.refused).toBeGreaterThan(2);
  });

  test("that runs on while all of a rotation happens commits or fails cleanly", PATIENCE, async () => {
    const original = await start();
    const counts = { committed: 0, refused: 0 };
    for (let step = 1, done = false; !done; step++) {
      const store = await copyOf(original.store);
      done = true;
      const hooked = new HookedStore(store, async (ordinal) => {
        if (ordinal !== step) return;
        done = false;
        await rotate(store);
      });
      const outcome = await backUp(hooked, KEY, original.disk);
      if (done) break;
      counts[outcome === null ? "committed" : "refused"]++;
      if (outcome !== null) expect(outcome, `step ${step}`).toMatchObject({ code: "wrong-key" });
      await withRing({ store, key: NEW }, async (ring) => await ring.endRotation());
      await expectWhole(store, NEW, original, before + (outcome === null ? 1 : 0));
    }
    expect(counts.committed).toBeGreaterThan(5);
    expect(counts.refused).toBeGreaterThan(1);
  });
});

async function backUp(store: ObjectStore, key: Buffer, disk: MemoryDisk): Promise<unknown> {
  try {
    await take(await Repository.open({ store, key }), [disk]);
    return null;
  } catch (thrown) {
    return thrown;
  }
}

test("a key is replaced as often as one likes, and what a rotation left under any earlier key is found and sealed anew", async () => {
  const at = await bench();
  const domains = await copyOf(at.store);
  const keys = [KEY, ...Array.from({ length: 4 }, () => randomBytes(32))];
  for (const [i, key] of keys.entries()) if (i > 0) await rotate(at.store, keys[i - 1] ?? KEY, key);
  const last = keys.at(-1) ?? KEY;
  await expectWhole(at.store, last, at);
  for (const key of keys.slice(0, -1)) expect(await opens(at.store, key)).toBe(false);
  for await (const { key } of domains.list("keys/")) await at.store.put(key, await domains.get(key));
  await expectWhole(at.store, last, at);
  await withRing({ store: at.store, key: last }, async (ring) => {
    expect(await ring.leftToSeal()).toBe(1);
    expect(await ring.endRotation()).toMatchObject({ domains: 1 });
    expect(await ring.leftToSeal()).toBe(0);
  });
  await expectUseless(at.store, KEY, at.id);
  await expectWhole(at.store, last, at);
  expect(await withRing({ store: at.store, key: last }, async (ring) => ring.rotations)).toBe(4);
});

test("a rotation that is damaged, changed or not the place's own is told apart, and so is a config that who had the first key made anew", async () => {
  const at = await bench();
  await rotate(at.store);
  const original = Buffer.from(await at.store.get("rotations/0001"));
  const config = Buffer.from(await at.store.get("config"));
  const put = async (bytes: Buffer): Promise<void> => await at.store.put("rotations/0001", bytes);
  for (const bytes of [original.subarray(10), Buffer.alloc(5000), Buffer.from(original.toString().replace('"number": 1', '"number": 2'))]) {
    await put(bytes);
    for (const key of [KEY, NEW, service])
      await expect(Repository.open({ store: at.store, key })).rejects.toMatchObject({ code: "damaged" });
  }
  await put(resummed(original, (rotation) => ({ ...rotation, time: "2001-01-01T00:00:00.000Z" })));
  await expect(Repository.open({ store: at.store, key: NEW })).rejects.toMatchObject({
    code: "tampered",
    message: expect.stringContaining("rotations/0001") as string,
  });
  await put(original);
  await at.store.put("config", encodeConfig({ version: 1, id: at.id, created: "2001-01-01T00:00:00.000Z", encrypted: true }, KEY));
  await expect(Repository.open({ store: at.store, key: NEW })).rejects.toMatchObject({
    code: "tampered",
    message: expect.stringContaining("config") as string,
  });
  await at.store.put("config", config);
  await expectWhole(at.store, NEW, at);
});

test("a store that lets two rotations overwrite each other is refused before anything is changed", PATIENCE, async () => {
  const made = await bench();
  const forgetful = await copyOf(made.store);
  forgetful.putIfAbsent = async (key, body, options) => await forgetful.put(key, body, options);
  await expect(rotate(forgetful)).rejects.toMatchObject({ code: "no-conditional-writes" });
  expect(await opens(forgetful, NEW)).toBe(false);
  await expectWhole(forgetful, KEY, made);
});
