import { readFileSync } from "node:fs";

import { checkListed, prune } from "../../src/repository/index.ts";
import { type Huge, HugeStore, packsOf } from "./huge-store.ts";

// A program of its own, so that its memory is its own: prune, or a check by lists, over a repository that is made up. Says what it found and what it took, as JSON.
const [work, size = ""] = process.argv.slice(2);
const huge = JSON.parse(size) as Huge;
const { store, repository } = await HugeStore.make(huge);
const { signal } = new AbortController();
const began = performance.now();
const report = work === "check" ? await checkListed(repository, { signal, sample: 0 }) : await prune(repository, { signal });
const seconds = (performance.now() - began) / 1000;
const peak = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
const { packReads, lists } = store;
// Machines whose next backups are told of sparse packs.
let told = 0;
for await (const _ of store.list("sparse/")) told += 1;
console.log(JSON.stringify({ expected: packsOf(huge), seconds, peak, packReads, lists, told, report }));
