import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

import { formatBytes } from "../../src/lib/bytes.ts";
import { patience } from "../support/patience.ts";
import type { Huge } from "./huge-store.ts";

/** `SOAK=1`: the whole bar, 10,000,000 packs and 30,000 points; else a tenth of the machines. */
const machines = process.env["SOAK"] === "1" ? 1000 : 100;
const huge: Huge = { machines, pointsOfEach: 30, packsOfFull: 4100, packsOfNext: 200, thinOfFull: 300, orphans: machines / 2 };
const points = machines * huge.pointsOfEach;
const MEMORY = 2 ** 30;
/** A renewal of locks keeps two numbers of each pack more, what was noted and what is. */
const MEMORY_OF_LOCKS = 1.5 * MEMORY;
const SECONDS = 20 * 60;

interface Said {
  readonly expected: number;
  readonly seconds: number;
  readonly peak: number;
  readonly packReads: number;
  readonly lists: number;
  readonly told: number;
  /** questions for a lock, and locks extended */
  readonly asked?: number;
  readonly extended?: number;
  readonly report: object;
}

function run(work: "prune" | "check" | "lock", memory: number = MEMORY): Said {
  const program = join(import.meta.dirname, "huge-work.ts");
  const args = ["--disable-warning=ExperimentalWarning", program, work, JSON.stringify(huge)];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: "utf8", maxBuffer: 2 ** 26 });
  expect(status, stderr).toBe(0);
  const said = JSON.parse(stdout) as Said;
  const { seconds, peak, expected } = said;
  console.log(`${work}: ${expected} packs, ${points} points: ${seconds.toFixed(0)} s, ${formatBytes(peak)} resident at most`);
  expect(said.packReads).toBe(0);
  expect(peak).toBeLessThanOrEqual(memory);
  expect(seconds).toBeLessThanOrEqual(SECONDS * patience());
  return said;
}

test(`a prune over ${points} points looks at every pack within 20 minutes and 1 GiB, and reads none`, { timeout: 3_600_000 }, () => {
  const { report, expected, told } = run("prune");
  expect(report).toMatchObject({ packs: { stored: expected }, points: { counted: points }, unclear: [] });
  expect(report).toMatchObject({ waiting: [{ packs: (machines / 2) * huge.packsOfNext, why: "marked" }] });
  const thin = machines * huge.thinOfFull;
  expect(report).toMatchObject({ sparse: { packs: thin, newest: { packs: thin } } });
  expect(told).toBe(machines);
});

test(`so does a check by lists`, { timeout: 3_600_000 }, () => {
  const { report, expected } = run("check");
  expect(report).toMatchObject({ points, packs: expected - huge.orphans * huge.packsOfNext, findings: [], bytesRead: 0 });
});

test(`so does a renewal of locks, which asks for none that is not due but those that prove what was noted`, { timeout: 3_600_000 }, () => {
  const { report, expected, asked, extended = 0 } = run("lock", MEMORY_OF_LOCKS);
  expect(report).toMatchObject({ points, left: 0, unlocked: 0, lapsed: 0, distrusted: false, renewed: extended });
  expect(report).toMatchObject({ missing: { objects: 0 }, released: { objects: huge.orphans * huge.packsOfNext } });
  expect(asked).toBe(32);
  // Those that were renewed 15 to 17 days ago, each with a threshold of its own between 15 and 20: one in 43.
  expect(extended / expected).toBeGreaterThan(0.02);
  expect(extended / expected).toBeLessThan(0.027);
});
