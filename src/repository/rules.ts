/**
 * The rules of time that make backup, forget and prune safe together, FORMAT.md §11: all times in ms, by the store's clock. `test/repository/model`
 * explores them; who changes one runs that at length.
 */

const HOUR = 3_600_000;
/** Of a run, from before it looked for what to stand on to its commit. */
export const MAX_RUN_MS: number = 24 * HOUR;
/** From a run's last look at the time to the commit: how long S3 takes a request after it was dated. */
const UNDER_WAY_MS: number = HOUR / 4;
/** A run, its last request, and four wrong clocks: two of the writer's, two of prune's. */
export const GRACE_MS: number = 30 * HOUR;

/** Whether a run may commit. @param since when it began to look for what it may stand on */
export function mayCommit(since: number, now: number): boolean {
  return now - since <= MAX_RUN_MS;
}

/** Whether a run that finds its point committed was in time. @param seen a time after the commit */
export function wasInTime(since: number, seen: number): boolean {
  return seen - since <= MAX_RUN_MS + UNDER_WAY_MS;
}

/** Whether a forgotten point still counts. @param marked when, by its marker */
export function isRoot(marked: number, now: number): boolean {
  return now - marked < GRACE_MS;
}

/** Whether what nothing refers to may be given up at all, or may belong to a run under way. @param stored when */
export function isOld(stored: number, now: number): boolean {
  return now - stored >= GRACE_MS;
}

/** Whether what nothing referred to at both times may be removed. */
export function mayRemove(earlier: number, later: number): boolean {
  return later - earlier >= GRACE_MS;
}
