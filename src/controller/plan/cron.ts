import { Cron } from "croner";
import { InvalidValueError } from "../../lib/invalid-value.ts";
import { errorText } from "../../lib/errors.ts";

/**
 * The times of a cron expression of five fields (or `@daily` and the like) in a time zone.
 *
 * A time that clocks are put forward over comes when they are put forward if it is the only one of its day, else it is left out. An hour
 * that clocks show twice has the only time of a day once, the first time, and every quarter of an hour as often as there is one.
 */
export interface Ticks {
  /** The last time at or before the instant, or null. */
  readonly last: (instant: Date) => Date | null;
  /** The first time after the instant, or null for an expression such as 30 February. */
  readonly next: (instant: Date) => Date | null;
  /** How many times lie between an instant and a later time, `most` at most. */
  readonly countBetween: (since: Date, tick: Date, most: number) => number;
}

/** Reads a cron expression. Throws `InvalidValueError` for one that is none, and for an unknown time zone. */
export function parseCron(expression: string, timeZone: string): Ticks {
  const cron = open(expression, timeZone);
  // The stretch that was asked for last: machines of one policy ask for nearly the same instants.
  let known: { readonly last: Date | null; readonly next: Date | null } | null = null;
  function around(instant: Date): { readonly last: Date | null; readonly next: Date | null } {
    if (known === null || !lies(instant, known)) {
      const after = new Date(Math.floor(instant.getTime() / 1000) * 1000);
      const last = cron.previousRuns(1, new Date(after.getTime() + 1000))[0] ?? null;
      known = { last, next: cron.nextRun(after) };
    }
    return known;
  }
  const lists = new Map<number, readonly Date[]>();
  function countBetween(since: Date, tick: Date, most: number): number {
    let list = lists.get(tick.getTime()) ?? [];
    // Mostly there are none, and going back is slow: look one back, then further.
    for (let length = 1; (list.at(-1) ?? tick) > since && list.length < most; length *= 10) {
      const longer = cron.previousRuns(Math.min(Math.max(length, list.length), most), tick);
      if (longer.length === list.length && length > longer.length) break;
      list = longer;
      lists.set(tick.getTime(), list);
    }
    return list.filter((one) => one > since).length;
  }
  return { last: (instant) => around(instant).last, next: (instant) => around(instant).next, countBetween };
}

function lies(instant: Date, { last, next }: { readonly last: Date | null; readonly next: Date | null }): boolean {
  return last !== null && last <= instant && next !== null && instant < next;
}

function open(expression: string, timeZone: string): Cron {
  try {
    const cron = new Cron(expression, { timezone: timeZone, paused: true, mode: "5-part" });
    // The zone is only looked at when a time is asked for.
    cron.nextRun(new Date(0));
    return cron;
  } catch (error) {
    throw new InvalidValueError(`"${expression}" in time zone "${timeZone}" is no schedule: ${errorText(error)}`, {
      hint: 'write five fields such as "15 2 * * *" and a zone such as Europe/Berlin',
      cause: error,
    });
  }
}
