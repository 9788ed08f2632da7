import { randomBytes } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";

import { keyIdOf } from "../../../src/repository/format/keys.ts";
import { decodeSlot } from "../../../src/repository/format/slot.ts";
import { type Credential, LocalKeyWrap, Passphrase, Repository, type SlotCredential } from "../../../src/repository/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { RepositoryKey } from "../../../src/repository/keys/repository-key.ts";
import { readConfig } from "../../../src/repository/read-config.ts";
import { KEY, newRepository, take } from "../harness.ts";
import { readDisk } from "../light-reader.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { resummed, withRing } from "./rings.ts";

const WORDS = "correct horse battery staple";
const FILE = Buffer.alloc(32, 9);
const MASTER = Buffer.alloc(32, 3);
const pass = (text = WORDS): Passphrase => new Passphrase(Buffer.from(text));

let store: MemoryObjectStore;
let content: Buffer;
beforeEach(async () => {
  store = new MemoryObjectStore();
  const disk = new MemoryDisk("vda", 256 * 1024);
  disk.write(4096, randomBytes(100_000));
  await take(await newRepository(store), [disk]);
  content = disk.bytes;
});

async function expectOpens(key: Credential): Promise<void> {
  const repository = await Repository.open({ store, key });
  const { points } = await repository.catalog.list();
  expect(points).toHaveLength(1);
  expect((await readDisk(repository, points[0]!)).equals(content)).toBe(true);
}

async function add(credential: SlotCredential, label = ""): Promise<string> {
  return await withRing({ store, key: KEY }, async (ring) => await ring.add(credential, label));
}

/** What `change` makes of a slot, as its bytes. */
async function spoil(id: string, change: (bytes: Buffer) => Buffer): Promise<void> {
  await store.put(`slots/${id}`, change(Buffer.from(await store.get(`slots/${id}`))));
}

const ways: readonly (readonly [string, () => SlotCredential, () => SlotCredential])[] = [
  ["a passphrase", () => pass(), () => pass(`${WORDS} `)],
  ["another key file", () => FILE, () => Buffer.alloc(32, 10)],
  ["a key service", () => new LocalKeyWrap(MASTER), () => new LocalKeyWrap(Buffer.alloc(32, 4))],
];

describe.each(ways)("%s", (name, right, wrong) => {
  const refused = name === "a passphrase" ? "wrong-passphrase" : "wrong-key";

  test("opens the repository, which the key itself goes on opening; another one does not", async () => {
    const id = await add(right(), "the night shift");
    await expectOpens(right());
    await expectOpens(KEY);
    await expect(Repository.open({ store, key: wrong() })).rejects.toMatchObject({ code: refused });
    const seen = await withRing({ store, key: right() }, async (ring) => ({ slots: await ring.list(), by: ring.openedBy, id: ring.keyId }));
    expect(seen.slots).toMatchObject([{ id, label: "the night shift", state: "opens", detail: "" }]);
    expect(seen.by).toBe(id);
    expect(seen.id).toBe(JSON.parse(Buffer.from(await store.get("config")).toString()).encryption.keyId);
  });

  test("lets a new repository be made, whose key is in its slot alone", async () => {
    const fresh = new MemoryObjectStore();
    const made = await Repository.init({ store: fresh, key: right() });
    const opened = await Repository.open({ store: fresh, key: right() });
    expect(opened.keys).toEqual(made.keys);
    await expect(Repository.init({ store: fresh, key: right() })).rejects.toMatchObject({ code: "already-a-repository" });
    expect(await keysOf(fresh, "slots/")).toHaveLength(right() instanceof Uint8Array ? 0 : 1);
    await expectOpens(KEY);
  });

  test("a slot with any bit flipped is damaged or refused, never opened as something else, and the key still opens", async () => {
    const id = await add(right());
    const original = Buffer.from(await store.get(`slots/${id}`));
    for (let at = 0; at < original.length; at += 7) {
      await spoil(id, () => flipped(original, at));
      const opened = await Repository.open({ store, key: right() }).catch((thrown: unknown) => thrown);
      // White space between two fields says nothing.
      if (opened instanceof Repository) expect(String.fromCharCode(original[at] ?? 0)).toMatch(/\s/);
      else expect(opened, `byte ${at}`).toMatchObject({ name: "FormatError", code: "damaged" });
    }
    await expectOpens(KEY);
  });

  test("a planted slot says nothing that a terminal would take for more than text", async () => {
    const id = await add(right());
    const original = Buffer.from(await store.get(`slots/${id}`));
    for (const planted of [{ label: "\u001B[2J" }, { label: "x".repeat(65) }, { created: "\u001B[2J" }]) {
      await spoil(id, () => resummed(original, (slot) => ({ ...slot, ...planted })));
      const [seen] = await withRing({ store, key: KEY }, async (ring) => await ring.list());
      expect(seen).toMatchObject({ state: "damaged", label: "", created: null });
      expect(seen?.detail).toMatch(/^[ -~]+$/);
    }
  });

  test("a slot that somebody changed, sum and all, is told apart from a damaged one", async () => {
    const id = await add(right());
    const original = Buffer.from(await store.get(`slots/${id}`));
    for (const change of [
      (slot: Record<string, unknown>) => ({ ...slot, label: "another" }),
      (slot: Record<string, unknown>) => ({ ...slot, created: "2001-01-01T00:00:00.000Z" }),
      (slot: Record<string, unknown>) => ({ ...slot, sealed: `00${String(slot["sealed"]).slice(2)}` }),
      (slot: Record<string, unknown>) => ({ ...slot, mac: "0".repeat(64) }),
    ]) {
      await spoil(id, () => resummed(original, change));
      await expect(Repository.open({ store, key: right() })).rejects.toMatchObject({
        code: "tampered",
        message: expect.stringContaining(`slots/${id}`) as string,
      });
      const [seen] = await withRing({ store, key: KEY }, async (ring) => await ring.list());
      expect(seen?.state).toBe("changed");
    }
    await spoil(id, () => original.subarray(0, 200));
    await expect(Repository.open({ store, key: right() })).rejects.toMatchObject({ code: "damaged" });
    const [seen] = await withRing({ store, key: KEY }, async (ring) => await ring.list());
    expect(seen).toMatchObject({ id, state: "damaged" });
    await spoil(id, () => original);
    await expectOpens(right());
  });

  test("is over when its slot is removed", async () => {
    const id = await add(right());
    await withRing({ store, key: KEY }, async (ring) => await ring.remove(id));
    await expect(Repository.open({ store, key: right() })).rejects.toMatchObject({ code: "wrong-key" });
    await expectOpens(KEY);
  });
});

test("a salt or a cost that somebody changed makes a right passphrase look wrong, and the list opened by the key says which slot it was", async () => {
  const id = await add(pass());
  await spoil(id, (bytes) => resummed(bytes, (slot) => ({ ...slot, scrypt: { ...(slot["scrypt"] as object), salt: "ab".repeat(32) } })));
  await expect(Repository.open({ store, key: pass() })).rejects.toMatchObject({ code: "wrong-passphrase" });
  const [seen] = await withRing({ store, key: KEY }, async (ring) => await ring.list());
  expect(seen).toMatchObject({ id, state: "changed" });
});

test.each([
  ["logN", 19],
  ["logN", 13],
  ["r", 9],
  ["p", 0],
  ["p", 5],
  ["logN", 40],
])("a slot whose %s is %d is refused before anything is computed", async (name, value) => {
  const id = await add(pass());
  await spoil(id, (bytes) => resummed(bytes, (slot) => ({ ...slot, scrypt: { ...(slot["scrypt"] as object), [name]: value } })));
  await expect(Repository.open({ store, key: pass() })).rejects.toMatchObject({ code: "damaged" });
});

test("of several passphrases each opens, and a damaged slot takes nothing from the others but is named to who is not let in", async () => {
  const ids = [await add(pass("one of two words")), await add(pass("two of two words"))];
  await expectOpens(pass("one of two words"));
  await expectOpens(pass("two of two words"));
  await spoil(ids[0] ?? "", (bytes) => bytes.subarray(1));
  await expectOpens(pass("two of two words"));
  await expect(Repository.open({ store, key: pass("one of two words") })).rejects.toMatchObject({
    code: "wrong-passphrase",
    message: expect.stringContaining(`slots/${ids[0]}`) as string,
  });
});

test("the last way in is not taken away unasked: other slots, or the key itself in hand, are ways in; damaged slots are none", async () => {
  const one = await add(pass("one of two words"));
  const two = await add(pass("two of two words"));
  const left = await withRing({ store, key: pass("one of two words") }, async (ring) => await ring.remove(one));
  expect(left.map(({ id }) => id)).toEqual([two]);
  await withRing({ store, key: pass("two of two words") }, async (ring) => {
    await expect(ring.remove(two)).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining(ring.keyId) as string });
  });
  const three = await add(FILE);
  await spoil(three, (bytes) => bytes.subarray(1));
  await withRing({ store, key: pass("two of two words") }, async (ring) => {
    await expect(ring.remove(two)).rejects.toMatchObject({ code: "invalid" });
    expect(await ring.remove(two, { lastWayIn: true })).toEqual([]);
  });
  await expectOpens(KEY);
  await withRing({ store, key: KEY }, async (ring) => expect(await ring.remove(three)).toEqual([]));
});

test("what cannot be added is refused, and nothing is written", async () => {
  await add(FILE);
  const before = await keysOf(store, "slots/");
  await expect(add(FILE)).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining("has the slot") as string });
  await expect(add(KEY)).rejects.toMatchObject({
    code: "invalid",
    message: expect.stringContaining("the repository key itself") as string,
  });
  await expect(add(pass("short"))).rejects.toMatchObject({ code: "invalid" });
  await expect(add(pass(), "ü")).rejects.toMatchObject({ code: "invalid" });
  await expect(add(pass(), "x".repeat(65))).rejects.toMatchObject({ code: "invalid" });
  await expect(withRing({ store, key: KEY }, async (ring) => await ring.remove("0000000000000000"))).rejects.toMatchObject({
    code: "invalid",
  });
  expect(await keysOf(store, "slots/")).toEqual(before);
});

test("there are 32 slots at most, and a passphrase is tried on no more", { timeout: 120_000 }, async () => {
  await withRing({ store, key: KEY }, async (ring) => {
    for (let i = 0; i < 32; i++) await ring.add(randomBytes(32), `${i}`);
    await expect(ring.add(randomBytes(32), "one more")).rejects.toMatchObject({ code: "invalid" });
    await store.put("slots/ffffffffffffffff", Buffer.from("planted"));
    expect(await ring.list()).toHaveLength(32);
  });
  await expectOpens(KEY);
});

test("a repository without encryption has no keys, and takes none", async () => {
  const plain = new MemoryObjectStore();
  await Repository.init({ store: plain, key: null });
  await expect(withRing({ store: plain, key: null }, async (ring) => await ring.list())).rejects.toMatchObject({ code: "invalid" });
  await expect(Repository.open({ store: plain, key: pass() })).rejects.toMatchObject({ code: "wrong-key" });
});

test("the key is overwritten when it is not needed any more, and what it was opened with stays its owner's", async () => {
  await add(FILE);
  const given = Buffer.from(FILE);
  const key = await RepositoryKey.find(await readConfig(store, {}), given, { store });
  expect([key.current.equals(KEY), key.first.equals(KEY)]).toEqual([true, true]);
  key.wipe();
  expect([...key.current, ...key.first].every((byte) => byte === 0)).toBe(true);
  expect(given.equals(FILE)).toBe(true);
});

test("nothing in the bucket holds a key or a passphrase", async () => {
  await add(FILE);
  await add(pass());
  await add(new LocalKeyWrap(MASTER));
  for (const key of await keysOf(store, "")) {
    const bytes = Buffer.from(await store.get(key));
    for (const secret of [KEY, FILE, MASTER, Buffer.from(WORDS)]) {
      expect(bytes.includes(secret) || bytes.includes(secret.toString("hex")), key).toBe(false);
    }
  }
});

test("slots are the format's: the id follows from the wrapping key, whatever else is in the bucket", async () => {
  const id = await add(FILE);
  const repositoryId = (await Repository.open({ store, key: KEY })).config.id;
  expect(id).toBe(keyIdOf(FILE, repositoryId));
  const slot = decodeSlot(await store.get(`slots/${id}`), id, { at: `slots/${id}`, repositoryId });
  expect(slot).toMatchObject({ id, opens: keyIdOf(KEY, repositoryId), way: { kind: "key-file" } });
});

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

async function keysOf(of: MemoryObjectStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of of.list(prefix)) keys.push(key);
  return keys;
}
