import { createHash, randomBytes } from "node:crypto";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { formatKeyFile, Passphrase } from "../../src/repository/index.ts";
import { skipWithout, tempDir } from "../lab/index.ts";
import { GOLDEN_FILE, GOLDEN_NEW, GOLDEN_WORDS, KEY, newRepository, take } from "../repository/harness.ts";
import { resummed, withRing } from "../repository/keys/rings.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { IndependentReader } from "./reader.ts";

const WORDS = "correct horse battery staple";
const NEW = randomBytes(32);
const NEWER = randomBytes(32);
const ALICE = randomBytes(32);

describe.skipIf(skipWithout("reader"))("keys, read by FORMAT.md alone", () => {
  let dir: string;
  let repo: string;
  let store: FsObjectStore;
  let disk: MemoryDisk;
  let point: string;
  beforeEach(async () => {
    dir = tempDir("keys");
    repo = join(dir, "repository");
    store = new FsObjectStore(repo);
    onTestFinished(async () => await store.close());
    disk = new MemoryDisk("vda", 400_000);
    disk.write(7, randomBytes(200_000));
    point = (await take(await newRepository(store), [disk])).id;
  });

  const withKey = (key: Buffer): IndependentReader => {
    const path = join(dir, `key-${key.toString("hex", 0, 4)}`);
    writeFileSync(path, formatKeyFile(key), { mode: 0o600 });
    return new IndependentReader(repo, path);
  };
  const withWords = (words: string): IndependentReader => {
    const path = join(dir, `words-${words.length}`);
    writeFileSync(path, words, { mode: 0o600 });
    return new IndependentReader(repo, null, { passphraseFile: path });
  };
  const expectReads = async (reader: IndependentReader): Promise<void> =>
    expect((await reader.disk(point, "vda")).equals(disk.bytes)).toBe(true);
  const spoil = (at: string, change: (bytes: Buffer) => Buffer): void =>
    writeFileSync(join(repo, at), change(readFileSync(join(repo, at))));

  test("several domains: each point by the key that opens it, none of a destroyed one; a tenant's key opens its own and no other", async () => {
    const golden = join(import.meta.dirname, "../repository/golden");
    const expected = JSON.parse(readFileSync(join(golden, "v1-domains.json"), "utf8")) as { id: string; domain: string; disk: string }[];
    const path = join(dir, "root.key");
    writeFileSync(path, formatKeyFile(KEY), { mode: 0o600 });
    const whole = new IndependentReader(join(golden, "v1-domains"), path);
    const tenant = new IndependentReader(join(golden, "v1-domains"), join(golden, "v1-domains.key"));
    expect((await whole.points()).map(({ id }) => id).toSorted()).toEqual(expected.map(({ id }) => id).toSorted());
    expect((await tenant.points()).map(({ id }) => id)).toEqual(expected.filter(({ domain }) => domain === "blue").map(({ id }) => id));
    for (const { id, domain, disk: wanted } of expected) {
      expect(
        createHash("sha256")
          .update(await whole.disk(id, "vda"))
          .digest("hex"),
        id,
      ).toBe(wanted);
      const read = tenant.disk(id, "vda");
      if (domain === "blue")
        expect(
          createHash("sha256")
            .update(await read)
            .digest("hex"),
          id,
        ).toBe(wanted);
      else await expect(read).rejects.toThrow("reader:");
    }
    expect((await whole.check()).packs).toBe(8);
    expect((await tenant.check()).packs).toBe(4);
    const gone = readdirSync(join(golden, "v1-domains/points")).find((vm) => !expected.some(({ id }) => id.startsWith(vm)));
    await expect(whole.disk(`${gone}-1`, "vda")).rejects.toThrow('the domain "gone", which was destroyed');
    await expect(new IndependentReader(repo, join(golden, "v1-domains.key")).points()).rejects.toThrow("another repository");
  });

  test(
    "a passphrase and another key file open the repository; wrong, damaged and changed are told apart",
    { timeout: 240_000 },
    async () => {
      const ids = await withRing({ store, key: KEY }, async (ring) => [
        await ring.add(new Passphrase(Buffer.from(WORDS)), "the safe"),
        await ring.add(ALICE, "alice"),
      ]);
      for (const reader of [withWords(WORDS), withWords(`${WORDS}\n`), withWords(`${WORDS}\r\n`)]) await expectReads(reader);
      await expectReads(withKey(ALICE));
      await expect(withWords(`${WORDS} `).points()).rejects.toThrow("the passphrase is wrong");
      await expect(withKey(NEW).points()).rejects.toThrow("key of another repository");
      for (const [id, reader] of [[ids[0], () => withWords(WORDS)] as const, [ids[1], () => withKey(ALICE)] as const]) {
        const whole = readFileSync(join(repo, `slots/${id}`));
        spoil(`slots/${id}`, (bytes) => resummed(bytes, (slot) => ({ ...slot, label: "mallory" })));
        await expect(reader().points()).rejects.toThrow(`slots/${id} was changed by somebody without the key`);
        spoil(`slots/${id}`, () => whole.subarray(0, -20));
        await expect(reader().points()).rejects.toThrow(`slots/${id} is damaged`);
        spoil(`slots/${id}`, () => whole);
      }
      await expectReads(withKey(KEY));
    },
  );

  test("the golden repository whose key was replaced reads in each of its ways", { timeout: 240_000 }, async () => {
    const golden = join(import.meta.dirname, "../repository/golden");
    const expected = JSON.parse(readFileSync(join(golden, "v1-rotated.json"), "utf8")) as readonly { id: string; disk: string }[];
    expect(expected).toHaveLength(2);
    repo = join(golden, "v1-rotated");
    for (const reader of [withKey(GOLDEN_NEW), withKey(GOLDEN_FILE), withWords(GOLDEN_WORDS)]) {
      for (const { id, disk: hash } of expected) {
        expect(
          createHash("sha256")
            .update(await reader.disk(id, "vda"))
            .digest("hex"),
        ).toBe(hash);
      }
    }
    await expect(withKey(KEY).points()).rejects.toThrow("from before it was replaced");
  });

  test(
    "after rotations the newest key reads, an earlier one is refused, and a rotation that died is whole",
    { timeout: 240_000 },
    async () => {
      const before = join(dir, "before");
      cpSync(join(repo, "keys"), before, { recursive: true });
      await withRing({ store, key: KEY }, async (ring) => await ring.add(ALICE, "alice"));
      await withRing({ store, key: KEY }, async (ring) => await ring.rotate({ key: NEW, slot: null }));
      await expectReads(withKey(NEW));
      const slot = { credential: new Passphrase(Buffer.from(WORDS)), label: "" };
      await withRing({ store, key: NEW }, async (ring) => await ring.rotate({ key: NEWER, slot }));
      for (const reader of [withKey(NEWER), withWords(WORDS)]) await expectReads(reader);
      for (const key of [KEY, NEW]) await expect(withKey(key).points()).rejects.toThrow("from before it was replaced");
      await expect(withKey(ALICE).points()).rejects.toThrow("key of another repository");
      cpSync(before, join(repo, "keys"), { recursive: true });
      await expectReads(withKey(NEWER));
      const rotation = readFileSync(join(repo, "rotations/0002"));
      spoil("rotations/0002", (bytes) => resummed(bytes, (object) => ({ ...object, time: "2001-01-01T00:00:00.000Z" })));
      await expect(withKey(NEWER).points()).rejects.toThrow("rotations/0002 was changed");
      spoil("rotations/0002", () => rotation.subarray(3));
      await expect(withKey(NEWER).points()).rejects.toThrow("rotations/0002 is damaged");
    },
  );
});
