import { StoreError, type StoreErrorCode } from "../errors.ts";
import type { ObjectStore } from "../objectstore.ts";

/** `required`: no repository without it; `advised`: it works without, and worse; `optional`: one may want it. */
export type Need = "required" | "advised" | "optional";

/** `missing`: the store says it cannot, or plainly does not; `not-allowed`: these credentials may not; `wrong`: it does something else than it should. */
export type CheckState = "ok" | "missing" | "not-allowed" | "wrong";

export interface Verdict {
  readonly state: CheckState;
  /** What was seen, where that says more than the state; else empty. */
  readonly detail: string;
}

/** What a check works with. */
export interface Trial {
  readonly store: ObjectStore;
  /** Everything is written below; ends with a slash. */
  readonly prefix: string;
  readonly signal: AbortSignal;
  /** Told how long things took. */
  readonly measure: (figure: keyof Figures, value: number) => void;
}

/** One property of a store, and what it is to a repository. */
export interface Check {
  readonly name: string;
  readonly need: Need;
  readonly means: {
    /** what it is good for */
    readonly ok: string;
    /** what is lost without */
    readonly otherwise: string;
    /** where that the credentials may not is another matter */
    readonly notAllowed?: string;
  };
  run(trial: Trial): Promise<Verdict>;
}

export interface Finding extends Verdict {
  readonly check: string;
  readonly need: Need;
  readonly means: string;
}

/** Short figures, not a benchmark: one client, small counts. */
export interface Figures {
  /** milliseconds, median, of 4 KiB */
  readonly putLatency: number | null;
  /** milliseconds, median, of 4 KiB */
  readonly getLatency: number | null;
  /** bytes a second, of one 64 MiB object */
  readonly upload: number | null;
  /** bytes a second, of one 64 MiB object */
  readonly download: number | null;
}

/** Objects that could not be removed. */
export interface Leftover {
  readonly prefix: string;
  /** object versions, where the store keeps versions; null: nobody could look */
  readonly objects: number | null;
  readonly reason: string;
}

/** What one kind of store adds: checks of what the port does not show, and how to leave nothing behind. */
export interface StoreTrials {
  readonly checks: readonly Check[];
  /** Removes what is below the prefix; resolves with what is left. */
  cleanUp(trial: Trial): Promise<readonly Leftover[]>;
  close(): Promise<void>;
}

export const ok: Verdict = { state: "ok", detail: "" };

export function seen(detail: string): Verdict {
  return { state: "ok", detail };
}

export function wrong(detail: string): Verdict {
  return { state: "wrong", detail };
}

export function missing(detail: string): Verdict {
  return { state: "missing", detail };
}

/** Nothing that is asked afterwards would have another answer. */
const hopeless: ReadonlySet<StoreErrorCode> = new Set(["bucket-missing", "unavailable", "timeout", "invalid-url", "no-space", "closed"]);

/** Carries one check out. Rejects only where the signal aborts, or where the first check finds nobody to answer. */
export async function carryOut(check: Check, trial: Trial, first: boolean): Promise<Finding> {
  const verdict = await check.run(trial).catch((thrown: unknown) => {
    trial.signal.throwIfAborted();
    if (!(thrown instanceof StoreError) || (first && hopeless.has(thrown.code))) throw thrown;
    return verdictOf(thrown);
  });
  return { check: check.name, need: check.need, ...verdict, means: meaning(check, verdict.state) };
}

function verdictOf(error: StoreError): Verdict {
  if (error.code === "access-denied") return { state: "not-allowed", detail: error.message };
  return error.code === "no-conditional-writes" ? missing(error.message) : wrong(error.message);
}

function meaning({ means }: Check, state: CheckState): string {
  if (state === "ok") return means.ok;
  return state === "not-allowed" ? (means.notAllowed ?? means.otherwise) : means.otherwise;
}
