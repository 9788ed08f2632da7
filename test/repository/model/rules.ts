import { GRACE_MS, isOld, isRoot, MAX_RUN_MS, mayCommit, mayRemove } from "../../../src/repository/rules.ts";

const HOUR = 3_600_000;

/**
 * The rules that make backup, forget and prune safe together (FORMAT.md §11), as functions of times by the store's clock. Hours here, so that what the
 * model explores reads well. Each is what one party asks before it does what cannot be undone.
 */
export interface Rules {
  /** A writer asks right before it commits. @param since when it began to look for what it may stand on */
  readonly mayCommit: (since: number, now: number) => boolean;
  /** A store asks of a creation that was on its way for so long: requests are dated, and old ones refused. */
  readonly isAccepted: (underWayFor: number) => boolean;
  /** Whether a writer may stand on a point that was forgotten. */
  readonly standsOnForgotten: boolean;
  /** Whether a writer notes the time before it looks for what it may stand on, or after. */
  readonly notesTimeFirst: boolean;
  /** Prune asks whether a forgotten point still counts. @param marked when, by its marker */
  readonly isRoot: (marked: number, now: number) => boolean;
  /** Prune asks of a pack that nothing refers to whether it may be given up at all. @param stored when */
  readonly isOld: (stored: number, now: number) => boolean;
  /** Prune asks whether what nothing referred to at both times may be removed now. */
  readonly mayRemove: (earlier: number, later: number) => boolean;
}

/** hours */
export const MAX_RUN: number = MAX_RUN_MS / HOUR;
/** How wrong any time of the store may be, either way. */
export const SKEW = 1;
/** How long a store takes a request after it was dated. */
export const UNDER_WAY = 0.25;
/** hours */
export const GRACE: number = GRACE_MS / HOUR;

/** The product's own, and what is asked of a store and of writers besides. */
export const rules: Rules = {
  mayCommit: (since, now) => mayCommit(since * HOUR, now * HOUR),
  isAccepted: (underWayFor) => underWayFor <= UNDER_WAY,
  standsOnForgotten: false,
  notesTimeFirst: true,
  isRoot: (marked, now) => isRoot(marked * HOUR, now * HOUR),
  isOld: (stored, now) => isOld(stored * HOUR, now * HOUR),
  mayRemove: (earlier, later) => mayRemove(earlier * HOUR, later * HOUR),
};
