import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";

import { formatBytes } from "../../src/lib/bytes.ts";
import { CountingObjectStore } from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { checkListed, type CheckReport, Repository } from "../../src/repository/index.ts";
import { HugeStore, packsOf } from "../bars/huge-store.ts";
import { newRepository, take } from "./harness.ts";
import { MemoryDisk } from "./memory-disk.ts";

const [MiB, GB, GRANULE] = [2 ** 20, 1e9, 65_536];
const PACK = 30 * MiB;
const DAYS = 30;
/** requests and bytes of a month, for 600 GB that are checked every day */
const BAR = { requests: 100_000, bytes: 6 * GB };
/** what `--sample` says, percent: five packs a day */
const SAMPLE = 0.025;
/** bytes that a list takes for one object, at the most: 20,000 of a real server's have 430 each */
const LISTED = 500;
/** of a month's bytes a tenth is left to what a provider counts beside bodies */
const ROOM = 0.9;
const { signal } = new AbortController();

interface Cost {
  readonly requests: number;
  readonly bytes: number;
}

async function costOf(store: CountingObjectStore, key: Buffer, sample: number): Promise<Cost & { readonly report: CheckReport }> {
  const repository = await Repository.open({ store, key });
  const report = await checkListed(repository, { signal, sample });
  expect(report.findings).toEqual([]);
  return { requests: Object.values(store.counts).reduce((sum, count) => sum + count, 0), bytes: store.bytesDown, report };
}

/** A check that lists everything, of 600 GB of a size as repositories have: 20 machines with 30 points each. */
async function listsCost(): Promise<Cost & { readonly packs: number }> {
  const huge = { machines: 20, pointsOfEach: 30, packsOfFull: 710, packsOfNext: 10, thinOfFull: 0, orphans: 0 };
  const packs = packsOf(huge);
  expect(packs * PACK).toBeGreaterThan(600 * GB);
  const { store } = await HugeStore.make(huge);
  const { requests, bytes, report } = await costOf(new CountingObjectStore(store), Buffer.alloc(32, 3), 0);
  expect(report).toMatchObject({ points: 600, packs, bytesRead: 0 });
  expect(store.packReads).toBe(0);
  return { packs, requests, bytes: bytes + LISTED * (packs + report.points) };
}

/** What one more pack costs that is read whole: real packs, all of them read or none. */
async function packCost(): Promise<Cost> {
  const [inner, key] = [new MemoryObjectStore(), randomBytes(32)];
  const repository = await newRepository(inner, key);
  const disk = new MemoryDisk("vda", 1600 * GRANULE);
  disk.write(0, randomBytes(disk.size));
  await take(repository, [disk]);
  const none = await costOf(new CountingObjectStore(inner), key, 0);
  const all = await costOf(new CountingObjectStore(inner), key, 100);
  const packs = all.report.packs;
  const stored = all.report.bytesRead;
  // Nothing of a pack is read twice, its table and trailer included.
  expect(all.bytes - none.bytes).toBeLessThanOrEqual(stored * 1.001);
  return { requests: (all.requests - none.requests) / packs, bytes: PACK };
}

test(`a daily check of 600 GB takes at most ${BAR.requests} requests and ${formatBytes(BAR.bytes)} a month, with packs read at random`, async () => {
  const [lists, pack] = [await listsCost(), await packCost()];
  const sampled = Math.ceil((lists.packs * SAMPLE) / 100);
  const month = (packs: number): Cost => ({
    requests: DAYS * (lists.requests + packs * pack.requests),
    bytes: DAYS * (lists.bytes + packs * pack.bytes),
  });
  const said = (packs: number): string => `${month(packs).requests} requests, ${formatBytes(month(packs).bytes)} a month`;
  console.log(
    `${lists.packs} packs, 600 points: ${lists.requests} requests for a check by lists, ${pack.requests} more for each pack that is read. ` +
      `Daily by lists alone: ${said(0)}; --sample ${SAMPLE} (${sampled} packs): ${said(sampled)}; --sample 1 (${lists.packs / 100} packs): ${said(lists.packs / 100)}`,
  );
  expect(month(sampled).requests).toBeLessThanOrEqual(BAR.requests);
  expect(month(sampled).bytes).toBeLessThanOrEqual(BAR.bytes * ROOM);
  // With one of a hundred packs read a day the requests still fit; the bytes are then what is asked for.
  expect(month(lists.packs / 100).requests).toBeLessThanOrEqual(BAR.requests);
});
