import { errorText } from "../../lib/errors.ts";
import type { Consistency } from "../backup-source.ts";
import { SourceError } from "../errors.ts";

/** Who freezes a guest's file systems for the instant, and thaws them. */
export interface Freezer {
  /** Why freezing is not to be tried at all now, as a sentence; null where it can be. */
  obstacle(): Promise<string | null>;
  /** Freezes, in bounded time. Rejects where it failed; `thaw` is called all the same. */
  freeze(): Promise<Frozen>;
  /** Thaws whatever may be frozen. Resolves with how many file systems that were, null where that is not known. Rejects where it failed. */
  thaw(): Promise<number | null>;
}

export interface Frozen {
  /** file systems; null where that is not known */
  readonly fileSystems: number | null;
  /** `performance.now()` at which somebody else thaws; null: nobody does */
  readonly until: number | null;
}

/** How freezing went; kept with the point. */
export interface FreezeReport {
  readonly policy: string;
  readonly consistency: Consistency;
  readonly frozen: number | null;
  readonly thawed: number | null;
  /** ms from freeze to thaw */
  readonly frozenMs: number;
  /** why freezing was not tried though it was allowed: not a fault, `consistency` says what it means */
  readonly obstacle: string | null;
  /** how it failed when it was tried */
  readonly problem: string | null;
}

export interface FreezeSteps {
  readonly onFrozen: () => Promise<void>;
  readonly onThawed: () => Promise<void>;
}

export type Quiesce = "auto" | "required" | "never";

/**
 * Runs `begin` with the guest's file systems frozen where policy and guest allow it, and thaws whatever happens. Rejects `freeze-failed` where
 * freezing is required and fails: before `begin`, or after it where the guest was thawed too early.
 */
export async function whileFrozen(
  freezer: Freezer,
  quiesce: Quiesce,
  steps: FreezeSteps,
  begin: () => Promise<void>,
): Promise<FreezeReport> {
  const report = { policy: quiesce, frozen: 0, thawed: 0, frozenMs: 0 };
  const obstacle = quiesce === "never" ? "" : await freezer.obstacle();
  if (obstacle !== null) {
    if (quiesce === "required") throw refusal(obstacle);
    await begin();
    return { ...report, consistency: "crash", obstacle: quiesce === "never" ? null : obstacle, problem: null };
  }
  const began = Date.now();
  const attempt = new FreezeAttempt(quiesce);
  let thawed: number | null = null;
  try {
    await attempt.freeze(freezer, steps.onFrozen);
    await begin();
    attempt.requireStillFrozen();
  } finally {
    // Also after a failed freeze: the agent may have frozen after all, only too late to say so.
    thawed = await freezer.thaw().catch((error: unknown) => attempt.failed(`the guest could not be thawed: ${errorText(error)}`));
  }
  await steps.onThawed();
  const { frozen, problem } = attempt;
  const consistency = frozen !== 0 && problem === null ? "filesystem" : "crash";
  return { ...report, consistency, frozen, thawed, frozenMs: Date.now() - began, obstacle: null, problem };
}

class FreezeAttempt {
  frozen: number | null = 0;
  problem: string | null = null;
  readonly #required: boolean;
  #until: number | null = null;

  constructor(quiesce: Quiesce) {
    this.#required = quiesce === "required";
  }

  async freeze(freezer: Freezer, onFrozen: () => Promise<void>): Promise<void> {
    try {
      const { fileSystems, until } = await freezer.freeze();
      [this.frozen, this.#until] = [fileSystems, until];
      await onFrozen();
    } catch (error) {
      if (this.#required) throw refusal(errorText(error), error);
      this.failed(errorText(error));
    }
    this.requireStillFrozen();
  }

  /** The instant counts as frozen only where nobody had thawed when it was over. */
  requireStillFrozen(): void {
    if (this.#until === null || performance.now() < this.#until) return;
    const said = "the guest was thawed again before the backup had begun";
    if (this.#required) throw refusal(said);
    this.failed(said);
  }

  failed(problem: string): null {
    this.problem ??= problem;
    return null;
  }
}

function refusal(reason: string, cause?: unknown): SourceError {
  return new SourceError("freeze-failed", `the guest's file systems could not be frozen: ${reason}`, {
    cause,
    hint: "install and start qemu-guest-agent in the guest, or use --quiesce auto",
  });
}
