import { readFileSync } from "node:fs";

import { prune } from "../../src/repository/index.ts";
import { type Huge, HugeStore, packsOf } from "./huge-store.ts";

// A program of its own, so that its memory is its own: prune over a repository that is made up. Says what it found and what it took, as JSON.
const huge = JSON.parse(process.argv[2] ?? "") as Huge;
const { store, repository } = await HugeStore.make(huge);
const began = performance.now();
const { signal } = new AbortController();
const report = await prune(repository, { signal });
const seconds = (performance.now() - began) / 1000;
const { removed, waiting, unclear, points, packs } = report;
const peak = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
const { packReads, lists } = store;
console.log(JSON.stringify({ expected: packsOf(huge), seconds, peak, packReads, lists, removed, waiting, unclear, points, packs }));
