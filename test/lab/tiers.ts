import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { LabError } from "./exec.ts";

/** What the set-up can provide; `node test/setup.mjs` makes them and writes down what it could not make. */
export type Tier = "host" | "trixie" | "s3" | "versitygw" | "reader" | "cluster" | "guest" | "peer" | "e2e";

interface TierState {
  readonly ok: boolean;
  /** Why it is not there; empty when it is. */
  readonly reason: string;
  /** Its root directory or program, where it has one. */
  readonly path?: string;
}

/** The root of the checkout. */
export function checkout(): string {
  return dirname(dirname(import.meta.dirname));
}

function stateOf(tier: Tier): TierState {
  const file = join(checkout(), ".cache/lab/tiers.json");
  if (!existsSync(file)) return { ok: false, reason: "the set-up has not run (npm run setup)" };
  const tiers = JSON.parse(readFileSync(file, "utf8")) as Record<string, TierState>;
  return tiers[tier] ?? { ok: false, reason: "the set-up did not make it (npm run setup)" };
}

/** Where a tier lies: the root of `trixie`, the kernel and initramfs directory of `guest`, the program of `s3`, `versitygw` and `reader`, the programs of `cluster`,
 * programs and images of `e2e`; empty when it is not there. */
export function tierPath(tier: Tier): string {
  return stateOf(tier).path ?? "";
}

/** @throws LabError with the reason when the tier is not there */
export function needTier(tier: Tier): void {
  const { ok, reason } = stateOf(tier);
  if (!ok) throw new LabError(`lab tier ${tier} is not there: ${reason}`);
}

/**
 * For `describe.skipIf(skipWithout('trixie'))`: true, after one line that says why, when one of the tiers is not there.
 * With `THINSTREAM_NO_SKIP=1` nothing is skipped: the tests then fail with the reason.
 */
export function skipWithout(...tiers: readonly Tier[]): boolean {
  if (process.env["THINSTREAM_NO_SKIP"] === "1") return false;
  for (const tier of tiers) {
    const { ok, reason } = stateOf(tier);
    if (ok) continue;
    process.stderr.write(`skipped: lab tier ${tier} is not there: ${reason}\n`);
    return true;
  }
  return false;
}
