import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { checkListed, extendLocks, prune, type Repository } from "../../src/repository/index.ts";
import { PackNumbers } from "../../src/repository/format/pack-numbers.ts";
import { lockName, writeLockBook } from "../../src/repository/lock/book.ts";
import { hourOf, timeOf } from "../../src/repository/lock/due.ts";
import { HugeLocks } from "./huge-locks.ts";
import { type Huge, HugeStore, packsOf } from "./huge-store.ts";

// A program of its own, so that its memory is its own: prune, a check by lists, or the renewal of locks, over a repository that is made up. Says what
// it found and what it took, as JSON.
const [work = "", size = ""] = process.argv.slice(2);
const DAYS = 30;
const HOUR = 3_600_000;
const { signal } = new AbortController();
const huge = JSON.parse(size) as Huge;
const { store, repository } = await HugeStore.make(huge);

const works: Readonly<Record<string, () => Promise<object>>> = {
  prune: async () => await prune(repository, { signal }),
  check: async () => await checkListed(repository, { signal, sample: 0 }),
  lock: async () => await extendLocks(repository, { periodMs: DAYS * 24 * HOUR, budget: packsOf(huge), signal }),
};

/** The hour until which an object is locked: it was renewed 17 days ago, or any time since. */
function lockedUntil(key: string): number {
  const draw = createHash("sha256").update(key).digest().readUInt32LE(0) / 2 ** 32;
  return hourOf(new Date()) + DAYS * 24 - Math.floor(draw * 17 * 24);
}

/** Everything is locked, and an earlier run has written down until when. */
async function lockAll(locked: Repository): Promise<HugeLocks> {
  const book = new PackNumbers();
  for (const prefix of ["config", "keys/", "points/", "packs/"])
    for await (const { key } of store.list(prefix)) book.set(lockName(key), lockedUntil(key));
  await writeLockBook(locked, book, signal);
  const list = store.list.bind(store);
  return new HugeLocks(list, (key) => ({ mode: "governance", until: timeOf(lockedUntil(key)) }));
}

const locks = work === "lock" ? await lockAll(repository) : null;
if (locks !== null) store.locks = locks;
const began = performance.now();
const report = await works[work]?.();
const seconds = (performance.now() - began) / 1000;
const peak = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
const { packReads, lists } = store;
// Machines whose next backups are told of sparse packs.
let told = 0;
for await (const _ of store.list("sparse/")) told += 1;
const { asked, extended } = locks ?? {};
console.log(JSON.stringify({ expected: packsOf(huge), seconds, peak, packReads, lists, told, asked, extended, report }));
