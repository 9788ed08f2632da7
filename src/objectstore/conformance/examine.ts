import { randomBytes } from "node:crypto";
import { errorText } from "../../lib/errors.ts";
import type { ObjectStore } from "../objectstore.ts";
import { carryOut, type Check, type Figures, type Finding, type Leftover, type StoreTrials, type Trial } from "./check.ts";
import { bigObject, createAgain, createOnce, createRaced } from "./creation.ts";
import { clock, keyShapes, listAfterWrite, listPages, readAfterWrite, readRange, remove, writeAndRead } from "./objects.ts";

/** Tidying up goes on for so long after the caller has had enough. */
const CLEAN_UP_MS = 60_000;

/** What every store is asked, in this order. */
const common: readonly Check[] = [
  writeAndRead,
  readRange,
  readAfterWrite,
  listPages,
  listAfterWrite,
  keyShapes,
  createOnce,
  createRaced,
  bigObject,
  clock,
  remove,
  createAgain,
];

export interface Examination {
  readonly findings: readonly Finding[];
  readonly figures: Figures;
  readonly leftovers: readonly Leftover[];
}

export interface ExamineOptions {
  readonly signal: AbortSignal;
  /** Told of each finding as it is made, and of how many there will be. */
  readonly onFinding?: (finding: Finding, total: number) => void;
}

/**
 * Asks a store for everything a repository stands on or profits from, with objects of its own below a new prefix, and removes them again.
 * Rejects with the store's own error where nobody answers or the bucket is missing.
 */
export async function examineStore(store: ObjectStore, trials: StoreTrials, options: ExamineOptions): Promise<Examination> {
  const figures: { -readonly [name in keyof Figures]: Figures[name] } = {
    putLatency: null,
    getLatency: null,
    upload: null,
    download: null,
  };
  const prefix = `store-test-${randomBytes(6).toString("hex")}/`;
  const trial: Trial = { store, prefix, signal: options.signal, measure: (figure, value) => (figures[figure] = value) };
  const checks = [...common, ...trials.checks];
  const findings: Finding[] = [];
  let leftovers: readonly Leftover[] = [];
  try {
    for (const [i, check] of checks.entries()) {
      const finding = await carryOut(check, trial, i === 0);
      findings.push(finding);
      options.onFinding?.(finding, checks.length);
    }
  } finally {
    leftovers = await trials
      .cleanUp({ ...trial, signal: AbortSignal.timeout(CLEAN_UP_MS) })
      .catch((thrown: unknown) => [{ prefix, objects: null, reason: errorText(thrown) }]);
  }
  return { findings, figures, leftovers };
}

/** Whether a repository can be kept in the store. */
export function isUsable({ findings }: Examination): boolean {
  return findings.every(({ need, state }) => need !== "required" || state === "ok");
}
