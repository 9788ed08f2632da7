/**
 * Makes golden repositories: `node test/repository/make-golden.ts NAME…`. Only for what is new in the format, into a new folder:
 * what is there already must be readable for ever.
 */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { Codec, Passphrase, Repository } from "../../src/repository/index.ts";
import { GOLDEN_FILE, GOLDEN_NEW, GOLDEN_WORDS, KEY, newRepository, take } from "./harness.ts";
import { withRing } from "./keys/rings.ts";
import { MemoryDisk } from "./memory-disk.ts";

const MiB = 1024 * 1024;
const root = join(import.meta.dirname, "golden");

/** Bytes that do not compress and that a name determines. */
function noise(name: string, length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, i) => createHash("sha256").update(`${name} ${i}`).digest());
  return Buffer.concat(blocks).subarray(0, length);
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function make(name: string, key: Buffer | null): Promise<void> {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store, key);
  const disk = new MemoryDisk("vda", 70 * MiB + 4096);
  const expected: unknown[] = [];
  disk.write(MiB + 8192, noise("one", 12_000));
  disk.write(3 * MiB, Buffer.from("text ".repeat(20_000)));
  const nvram = noise("nvram", 700);
  for (const codec of [Codec.lz4, Codec.zstd, Codec.none]) {
    const point = await take(repository, [disk], { codec, captures: { nvram } });
    expected.push({ id: point.id, disk: sha256(disk.bytes), nvram: sha256(nvram) });
    disk.checkpoint();
    if (codec === Codec.lz4) {
      disk.write(66 * MiB, Buffer.from(`and more text `.repeat(4000)));
      disk.write(3 * MiB, Buffer.alloc(65_536));
    }
    disk.write(disk.size - 4096, noise(`end ${codec}`, 4096));
  }
  await save(name, store, expected);
}

/** One point before the key was replaced and one after; three ways in. */
async function makeRotated(name: string): Promise<void> {
  const store = new MemoryObjectStore();
  const disk = new MemoryDisk("vda", MiB);
  disk.write(8192, noise("rotated", 12_000));
  const expected: unknown[] = [];
  for (const key of [KEY, GOLDEN_NEW]) {
    const point = await take(await (key === KEY ? newRepository(store) : Repository.open({ store, key })), [disk]);
    expected.push({ id: point.id, disk: sha256(disk.bytes) });
    disk.checkpoint();
    disk.write(disk.size - 4096, noise("after", 4096));
    const slot = { credential: new Passphrase(Buffer.from(GOLDEN_WORDS)), label: "the safe" };
    if (key === KEY) await withRing({ store, key }, async (ring) => await ring.rotate({ key: GOLDEN_NEW, slot }));
  }
  await withRing({ store, key: GOLDEN_NEW }, async (ring) => await ring.add(GOLDEN_FILE, "alice"));
  await save(name, store, expected);
}

/** Two domains with a machine of one name and content in each, a third that was destroyed; the key of one domain beside it. */
async function makeDomains(name: string): Promise<void> {
  const store = new MemoryObjectStore();
  await newRepository(store);
  const expected: unknown[] = [];
  for (const domain of ["default", "blue", "gone"]) {
    const disk = new MemoryDisk("vda", MiB);
    disk.write(8192, noise("domains", 1500));
    const repository = await Repository.open({ store, key: KEY, domain });
    for (const round of ["one", "two"]) {
      disk.write(disk.size - 512, noise(`${domain} ${round}`, 512));
      const point = await take(repository, [disk], { vm: "web" });
      disk.checkpoint();
      if (domain !== "gone") expected.push({ id: point.id, domain, disk: sha256(disk.bytes) });
    }
  }
  await withRing({ store, key: KEY }, async (ring) => {
    await writeFile(join(root, `${name}.key`), await ring.exportDomain("blue"));
    await ring.destroyDomain("gone");
  });
  await save(name, store, expected);
}

async function save(name: string, store: MemoryObjectStore, expected: readonly unknown[]): Promise<void> {
  for await (const { key: at } of store.list("")) {
    const path = join(root, name, at);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, await store.get(at));
  }
  await writeFile(join(root, `${name}.json`), `${JSON.stringify(expected, null, 2)}\n`);
}

const makers: Readonly<Record<string, (name: string) => Promise<void>>> = {
  "v1-encrypted": async (name) => await make(name, KEY),
  "v1-plain": async (name) => await make(name, null),
  "v1-rotated": makeRotated,
  "v1-domains": makeDomains,
};
for (const name of process.argv.slice(2)) await makers[name]?.(name);
