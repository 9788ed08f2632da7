import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

import { formatBytes } from "../../src/lib/bytes.ts";
import type { PruneReport } from "../../src/repository/index.ts";
import { patience } from "../support/patience.ts";
import type { Huge } from "./huge-store.ts";

/** `SOAK=1`: the whole bar, 10,000,000 packs and 30,000 points; else a tenth of the machines. */
const machines = process.env["SOAK"] === "1" ? 1000 : 100;
const huge: Huge = { machines, pointsOfEach: 30, packsOfFull: 4100, packsOfNext: 200, orphans: machines / 2 };
const MEMORY = 2 ** 30;
const SECONDS = 20 * 60;

interface Said extends PruneReport {
  readonly expected: number;
  readonly seconds: number;
  readonly peak: number;
  readonly packReads: number;
  readonly lists: number;
}

test(`a prune over ${machines * 30} points looks at every pack within 20 minutes and 1 GiB, and reads none`, () => {
  const program = join(import.meta.dirname, "huge-prune.ts");
  const { stdout, stderr, status } = spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", program, JSON.stringify(huge)], {
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  expect(status, stderr).toBe(0);
  const said = JSON.parse(stdout) as Said;
  const { seconds, peak, expected } = said;
  console.log(`${expected} packs, ${said.points.counted} points: ${seconds.toFixed(0)} s, ${formatBytes(peak)} resident at most`);
  expect(said).toMatchObject({ packs: { stored: expected }, points: { counted: machines * 30 }, unclear: [], packReads: 0 });
  expect(said.waiting).toMatchObject([{ packs: (machines / 2) * huge.packsOfNext, why: "marked" }]);
  expect(peak).toBeLessThanOrEqual(MEMORY);
  expect(seconds).toBeLessThanOrEqual(SECONDS * patience());
}, 3_600_000);
