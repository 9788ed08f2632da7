import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";

import { FaultyObjectStore } from "../../src/objectstore/index.ts";
import { checkListed, type CheckReport, readCapture, Repository } from "../../src/repository/index.ts";
import { KEY } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { PruneLab } from "./prune/lab.ts";

const signal = new AbortController().signal;
const GRANULE = 65_536;

async function listed(lab: PruneLab, sample = 0): Promise<CheckReport> {
  return await checkListed(lab.repository, { signal, sample });
}

/** A repository of three points of a machine, and one of another. */
async function build(): Promise<PruneLab> {
  const lab = await PruneLab.start();
  for (let i = 0; i < 3; i++) await lab.backup();
  lab.disk.trackChanges = false;
  await lab.backup(4, { vm: "other" });
  return lab;
}

test("says that all is there without a look at any data, and before prune was at work from the maps alone", async () => {
  const lab = await build();
  expect(await listed(lab)).toMatchObject({ points: 4, findings: [], bytesRead: 0 });
  expect(await lab.store.keys("usage/"), "who checks may only read").toEqual([]);
  await lab.prune(1);
  lab.store.reads.length = 0;
  const { packs } = await listed(lab);
  expect(packs).toBe((await lab.packs()).length);
  expect(lab.store.reads.filter((key) => key.startsWith("packs/"))).toEqual([]);
});

test("a pack that is missing or cut short is named with every point, machine and range that needs it, and nothing else is", async () => {
  const lab = await build();
  await lab.prune(1);
  const contents = lab.contents;
  for (const pack of await lab.packs()) {
    const key = `packs/${lab.repository.domain}/${pack.slice(0, 2)}/${pack}`;
    const bytes = await lab.store.get(key);
    for (const kept of [null, bytes.subarray(0, 40)]) {
      await lab.store.delete(key);
      if (kept !== null) await lab.store.put(key, kept);
      const { findings } = await listed(lab);
      const hurt = await broken(lab);
      expect(findings.flatMap(({ points }) => points).toSorted()).toEqual(hurt.toSorted());
      if (hurt.length === 0) continue;
      expect(findings).toMatchObject([{ what: key, reason: expect.stringMatching(kept === null ? /is missing/ : /cut short/) as string }]);
      for (const { name, offset, length } of findings[0]?.places ?? []) {
        if (name !== "vda") continue;
        expect([(offset ?? 1) % GRANULE, (length ?? 1) % GRANULE]).toEqual([0, 0]);
      }
    }
    await lab.store.put(key, bytes);
  }
  expect(contents.size).toBe(4);
  expect((await listed(lab)).findings).toEqual([]);
});

/** Points that do not restore, by trying each. */
async function broken(lab: PruneLab): Promise<string[]> {
  const found: string[] = [];
  for (const point of (await lab.repository.catalog.list()).points) {
    try {
      await readDisk(lab.repository, point);
      for (const capture of point.captures) await readCapture(lab.repository, capture);
    } catch {
      found.push(point.id);
    }
  }
  return found;
}

test("points that are missing or cannot be read are named", async () => {
  const lab = await build();
  const [first = "", second = ""] = await lab.store.keys("points/");
  await lab.store.delete(first);
  await lab.store.put(second, randomBytes(100));
  expect((await listed(lab)).findings.map(({ points }) => points)).toHaveLength(2);
});

test("a forgotten point that a prune removes meanwhile is not missed", async () => {
  const lab = await build();
  const [first = ""] = await lab.store.keys("points/");
  const store = new FaultyObjectStore(lab.store, []);
  store.list = async function* (prefix, ...options) {
    yield* lab.store.list(prefix, ...options);
    if (prefix === "points/") await lab.store.delete(first);
  };
  const repository = await Repository.open({ store, key: KEY });
  const [, vm, seq] = first.split("/");
  await repository.catalog.forget(`${vm}-${Number(seq)}`);
  expect((await checkListed(repository, { signal, sample: 0 })).findings).toEqual([]);
});

test("a sample reads so many packs, finds what is damaged in them, and says what it would have found", async () => {
  const lab = await build();
  const packs = await lab.packs();
  const some = await listed(lab, 50);
  expect(some).toMatchObject({ findings: [], sample: { packs: Math.ceil(packs.length / 2) } });
  expect(some.bytesRead).toBeGreaterThan(0);
  const [pack = ""] = packs;
  const key = `packs/${lab.repository.domain}/${pack.slice(0, 2)}/${pack}`;
  const bytes = Buffer.from(await lab.store.get(key));
  bytes[100] = (bytes[100] ?? 0) ^ 1;
  await lab.store.put(key, bytes);
  expect((await listed(lab, 100)).findings).toMatchObject([{ what: key }]);
  expect((await listed(lab)).findings, "lists do not tell what is inside").toEqual([]);
});
