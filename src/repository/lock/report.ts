import type { PackNumbers } from "../format/pack-numbers.ts";
import { timeOf } from "./due.ts";
import type { Extender } from "./extend.ts";
import type { Needed } from "./needed.ts";
import type { Alarm, Surveyed } from "./survey.ts";

export interface LockReport {
  /** when the run began, by the store's clock */
  readonly at: Date;
  /** until when was locked what was renewed */
  readonly until: Date;
  /** restore points that count */
  readonly points: number;
  /** Needed objects that are locked now: how many until which day, soonest first. */
  readonly locked: readonly { readonly until: string; readonly objects: number }[];
  /** the first end among them, to the hour; null where nothing is locked */
  readonly soonest: Date | null;
  /** needed objects that are there and have no lock, as far as is known */
  readonly unlocked: number;
  /** needed objects whose locks had ended before this run, as far as is known */
  readonly lapsed: number;
  /** objects whose lock was extended, or would be in a dry run */
  readonly renewed: number;
  /** requests for single objects */
  readonly requests: number;
  /** objects that are due and were left for want of requests */
  readonly left: number;
  /** objects that nothing needs any more and that are still locked, as far as is known */
  readonly released: { readonly objects: number; readonly until: Date | null };
  /** whether what earlier runs had written down was found untrue, and every lock was asked for */
  readonly distrusted: boolean;
  /** what is needed and was not found at all */
  readonly missing: Named;
  /** what is needed and was overwritten since */
  readonly overwritten: Named;
  /** what is needed and was deleted since */
  readonly hidden: Named;
  /** Points of which it cannot be said what they need: because of them everything that is stored was kept locked. */
  readonly unclear: Needed["unclear"];
}

/** How many objects, and the keys of the first. */
export interface Named {
  readonly objects: number;
  readonly keys: readonly string[];
}

/** What there is before anything is extended. */
export interface Found {
  readonly points: number;
  readonly unclear: Needed["unclear"];
  readonly survey: Surveyed;
  readonly distrusted: boolean;
  /** hours until which objects are locked that nothing needs any more */
  readonly released: PackNumbers;
  readonly missing: Alarm;
}

export function reportOf(run: { readonly at: Date; readonly until: Date; readonly found: Found; readonly extender: Extender }): LockReport {
  const { at, until, extender } = run;
  const { points, unclear, survey, distrusted, released, missing } = run.found;
  return {
    at,
    until,
    points,
    ...countLocks(survey.standing, at),
    lapsed: survey.lapsed,
    renewed: extender.renewed,
    requests: extender.requests + survey.sample.length,
    left: survey.due - extender.done,
    released: latestOf(released),
    distrusted,
    missing: named(missing),
    overwritten: named(survey.overwritten),
    hidden: named(survey.hidden),
    unclear,
  };
}

function countLocks(standing: PackNumbers, at: Date): Pick<LockReport, "locked" | "soonest" | "unlocked"> {
  const days = new Map<string, number>();
  let soonest = Infinity;
  let unlocked = 0;
  for (const [, hour] of standing.entries()) {
    if (timeOf(hour) <= at) {
      unlocked += 1;
      continue;
    }
    const day = timeOf(hour).toISOString().slice(0, 10);
    days.set(day, (days.get(day) ?? 0) + 1);
    soonest = Math.min(soonest, hour);
  }
  const locked = [...days].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([until, objects]) => ({ until, objects }));
  return { locked, soonest: soonest === Infinity ? null : timeOf(soonest), unlocked };
}

function latestOf(released: PackNumbers): LockReport["released"] {
  let [objects, latest] = [0, 0];
  for (const [, hour] of released.entries()) {
    objects += 1;
    latest = Math.max(latest, hour);
  }
  return { objects, until: objects === 0 ? null : timeOf(latest) };
}

function named({ count, keys }: Alarm): Named {
  return { objects: count, keys };
}
