import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { expect, test } from "vitest";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import {
  checkDomains,
  checkRepository,
  DomainCredential,
  Domains,
  parseDomainKeyFile,
  Passphrase,
  readCapture,
  Repository,
} from "../../src/repository/index.ts";
import { GOLDEN_FILE, GOLDEN_NEW, GOLDEN_WORDS, KEY, restore, take } from "./harness.ts";
import { MemoryDisk } from "./memory-disk.ts";

const root = join(import.meta.dirname, "golden");
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** The committed repository, copied so that nothing is written to it. */
async function load(name: string): Promise<MemoryObjectStore> {
  const store = new MemoryObjectStore();
  const folder = join(root, name);
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) await store.put(relative(folder, path), readFileSync(path));
  }
  return store;
}

interface Expected {
  readonly id: string;
  readonly disk: string;
  readonly nvram: string;
}

test.each([
  ["v1-encrypted", KEY],
  ["v1-plain", null],
])("%s, written by the first version, still restores, checks clean and takes another point", async (name, key) => {
  const store = await load(name);
  const expected = JSON.parse(readFileSync(join(root, `${name}.json`), "utf8")) as readonly Expected[];
  const repository = await Repository.open({ store, key });
  const { points } = await repository.catalog.list();
  expect(points.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
  expect(points).toHaveLength(3);
  for (const [i, point] of points.entries()) {
    expect(sha256(await restore(repository, point, "vda", i !== 1)), point.id).toBe(expected[i]?.disk);
    for (const capture of point.captures) expect(sha256(await readCapture(repository, capture))).toBe(expected[i]?.nvram);
  }
  expect((await checkRepository(repository, { signal: new AbortController().signal })).findings).toEqual([]);
  const disk = new MemoryDisk("vda", 4 * 65_536);
  disk.write(0, Buffer.from("more"));
  expect(await take(repository, [disk])).toMatchObject({ seq: 4, parent: points[2]?.id });
});

test("v1-rotated, whose key was replaced by the first version that does so, opens in each of its ways and not with the old key", async () => {
  const store = await load("v1-rotated");
  const expected = JSON.parse(readFileSync(join(root, "v1-rotated.json"), "utf8")) as readonly Expected[];
  for (const key of [GOLDEN_NEW, GOLDEN_FILE, new Passphrase(Buffer.from(GOLDEN_WORDS))]) {
    const repository = await Repository.open({ store, key });
    const { points } = await repository.catalog.list();
    expect(points.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
    for (const [i, point] of points.entries()) expect(sha256(await restore(repository, point, "vda")), point.id).toBe(expected[i]?.disk);
  }
  await expect(Repository.open({ store, key: KEY })).rejects.toMatchObject({ code: "wrong-key" });
  expect(await take(await Repository.open({ store, key: GOLDEN_FILE }), [new MemoryDisk("vda", 65_536)])).toMatchObject({ seq: 3 });
});

test("v1-domains, made by the first version with several, opens whole and in part; what was destroyed stays destroyed", async () => {
  const store = await load("v1-domains");
  const expected = JSON.parse(readFileSync(join(root, "v1-domains.json"), "utf8")) as readonly (Expected & { readonly domain: string })[];
  const file = parseDomainKeyFile(readFileSync(join(root, "v1-domains.key"), "utf8"));
  if (file === null) throw new Error("v1-domains.key is no domain's key");
  for (const key of [KEY, new DomainCredential(file)]) {
    const domains = await Domains.open({ store, key });
    const wanted = key === KEY ? expected : expected.filter(({ domain }) => domain === "blue");
    const { points, unreadable } = await domains.list();
    expect(points.map(({ point, domain }) => `${point.id} ${domain.label}`).toSorted()).toEqual(
      wanted.map(({ id, domain }) => `${id} ${domain}`).toSorted(),
    );
    expect(unreadable).toEqual([]);
    for (const { point, domain } of points)
      expect(sha256(await restore(domain, point, "vda")), point.id).toBe(wanted.find(({ id }) => id === point.id)?.disk);
    const report = await checkDomains(domains, { signal: new AbortController().signal, level: "read", sample: 0 });
    expect(report).toMatchObject({ findings: [], destroyed: key === KEY ? [{ name: "gone", points: 2 }] : [] });
  }
  await expect(Repository.open({ store, key: KEY, domain: "gone" })).rejects.toMatchObject({ code: "domain-destroyed" });
  expect(
    await take(await Repository.open({ store, key: KEY, domain: "blue" }), [new MemoryDisk("vda", 65_536)], { vm: "web" }),
  ).toMatchObject({ seq: 3 });
});

test("the golden repositories stay small", () => {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  expect(files.length).toBeGreaterThan(10);
  expect(files.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)).toBeLessThan(256 * 1024);
});
