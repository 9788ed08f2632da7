import { domainDestroyed } from "../domain-key.ts";
import type { Domains } from "../domains/domains.ts";
import { extendAllLocks, extendLocks, type LockOptions } from "./lock.ts";
import type { LockReport, Named } from "./report.ts";

/**
 * Extends the locks of every domain; the requests are for all of them together. What a destroyed one had is left to run out; of one whose key is lost
 * everything stays locked.
 */
export async function lockDomains(domains: Domains, options: LockOptions): Promise<LockReport> {
  domains.requireWhole();
  const reports: LockReport[] = [];
  let left = options.budget;
  const extend = async (one: (within: LockOptions) => Promise<LockReport>): Promise<void> => {
    const report = await one({ ...options, budget: left });
    left = Math.max(1, left - report.requests);
    reports.push(report);
  };
  for (const domain of domains.opened) await extend(async (within) => await extendLocks(domain, within));
  for (const lost of domains.lost) await extend(async (within) => await extendAllLocks(domains.store, lost, within));
  const [first, ...others] = reports;
  if (first === undefined) throw domainDestroyed(domains.destroyed[0]?.name ?? "", domains.destroyed[0]?.time ?? "");
  return others.reduce(joined, first);
}

function joined(a: LockReport, b: LockReport): LockReport {
  return {
    at: a.at,
    until: a.until,
    points: a.points + b.points,
    locked: joinedDays([...a.locked, ...b.locked]),
    soonest: extreme([a.soonest, b.soonest], (one, other) => one < other),
    unlocked: a.unlocked + b.unlocked,
    lapsed: a.lapsed + b.lapsed,
    renewed: a.renewed + b.renewed,
    requests: a.requests + b.requests,
    left: a.left + b.left,
    released: {
      objects: a.released.objects + b.released.objects,
      until: extreme([a.released.until, b.released.until], (one, other) => one > other),
    },
    distrusted: a.distrusted || b.distrusted,
    missing: joinedNames(a.missing, b.missing),
    overwritten: joinedNames(a.overwritten, b.overwritten),
    hidden: joinedNames(a.hidden, b.hidden),
    // What no domain can read is unclear to each.
    unclear: [...new Map([...a.unclear, ...b.unclear].map((one) => [one.id, one])).values()],
  };
}

function joinedDays(days: LockReport["locked"]): LockReport["locked"] {
  const counts = new Map<string, number>();
  for (const { until, objects } of days) counts.set(until, (counts.get(until) ?? 0) + objects);
  return [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([until, objects]) => ({ until, objects }));
}

function extreme(times: readonly (Date | null)[], isMore: (one: Date, other: Date) => boolean): Date | null {
  return times.reduce((found, time) => (found === null || (time !== null && isMore(time, found)) ? time : found), null);
}

/** The same object, as `config`, may be found by several. */
function joinedNames(a: Named, b: Named): Named {
  const both = b.keys.filter((key) => a.keys.includes(key)).length;
  return {
    objects: a.objects + b.objects - both,
    keys: [...new Set([...a.keys, ...b.keys])].slice(0, Math.max(a.keys.length, b.keys.length, 20)),
  };
}
