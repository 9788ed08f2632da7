import type { DomainListing, Domains, PointRecord } from "../../repository/index.ts";
import { firstOutOfTime, planRetention, type RetainedPoint, type RetentionRules } from "../../retention/index.ts";
import { table } from "../table.ts";
import { UsageError } from "../usage-error.ts";

/** The rules as the command line names them. */
export interface KeepFlags {
  readonly vm?: readonly string[];
  readonly keepLast?: number;
  readonly keepHourly?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
  /** seconds */
  readonly keepWithin?: number;
  readonly timeZone: string;
}

interface Listed {
  readonly record: PointRecord;
  readonly held: boolean;
}

interface Candidate extends RetainedPoint {
  readonly record: PointRecord;
}

interface Verdict {
  readonly point: { readonly record: PointRecord };
  /** none: it is to be forgotten */
  readonly reasons: readonly string[];
}

/** What becomes of every point, machine by machine. */
export interface ForgetPlan {
  readonly machines: readonly {
    readonly vm: string;
    /** null where there is only one */ readonly domain: string | null;
    /** newest first */ readonly verdicts: readonly Verdict[];
  }[];
  readonly warnings: readonly string[];
}

/** Null where no rule keeps anything: everything would go. */
export function rulesOf({ keepWithin, ...flags }: KeepFlags): RetentionRules | null {
  const { keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly } = flags;
  const given = Object.entries({ keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly, keepWithinSeconds: keepWithin });
  const rules = given.filter(([, value]) => (value ?? 0) > 0);
  // The newest point stays by itself, so that a least number beside it would only be said twice.
  return rules.length === 0 ? null : { ...(Object.fromEntries(rules) as RetentionRules), minimumRestorePoints: 0 };
}

export function keptBy({ reasons }: Verdict): boolean {
  return reasons.length > 0;
}

/** Weighs every point of the machines that are asked for, or of all. */
export async function planOf(
  domains: Domains,
  { rules, flags, signal }: { readonly rules: RetentionRules; readonly flags: KeepFlags; readonly signal: AbortSignal },
): Promise<ForgetPlan> {
  const listings: DomainListing[] = [];
  for (const vm of flags.vm === undefined ? [undefined] : new Set(flags.vm)) {
    const listing = await domains.list({ signal, ...(vm === undefined ? {} : { vm }) });
    if (vm !== undefined && listing.points.length + listing.unreadable.length === 0)
      throw new UsageError(`There are no restore points of ${vm} in the repository`, { hint: "`thinstream points` lists what there is" });
    listings.push(listing);
  }
  const machines = Map.groupBy(
    listings.flatMap(({ points, held }) => points.map(({ point: record, domain }) => ({ record, domain, held: held.has(record.id) }))),
    // Machines of one name in two domains are two.
    ({ record, domain }) => JSON.stringify([record.vm.name, domain.label]),
  );
  const now = await domains.store.now({ signal });
  const warnings = listings.flatMap(({ unreadable }) =>
    unreadable.map(({ id, error }) => `The restore point ${id} cannot be read, so no rule forgets it: ${error.message}`),
  );
  const weighed = [...machines]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, points]) => {
      const [vm, domain] = JSON.parse(key) as [string, string];
      const timed = points.map(({ record: { id, seq, time } }) => ({ id, sequence: seq, time: new Date(time) }));
      const doubtful = firstOutOfTime(timed, now);
      if (doubtful !== null)
        warnings.push(
          `No rule forgets points of ${vm}, because the store's clock was wrong at ${doubtful.id} or after it; name them with --point`,
        );
      return {
        vm,
        domain: domains.several ? domain : null,
        verdicts: weigh(points, { rules, timeZone: flags.timeZone, isDoubtful: doubtful !== null }),
      };
    });
  return { machines: weighed, warnings };
}

function weigh(
  points: readonly Listed[],
  { rules, timeZone, isDoubtful }: { readonly rules: RetentionRules; readonly timeZone: string; readonly isDoubtful: boolean },
): readonly Verdict[] {
  if (isDoubtful) return unweighed(points);
  const candidates = points.map(({ record, held }): Candidate => {
    // As many digits for each: points of the same instant are ordered by their ids.
    return { id: String(record.seq).padStart(10, "0"), time: new Date(record.time), ready: true, hold: held, record };
  });
  const last = Math.max(...points.map(({ record }) => record.seq));
  return planRetention(candidates, rules, timeZone).map(({ point, reasons }) => {
    // Clocks that differ a little make another point look newer than the one that was made last.
    return { point, reasons: point.record.seq === last && reasons.length === 0 ? ["made last"] : reasons };
  });
}

function unweighed(points: readonly Listed[]): readonly Verdict[] {
  return points
    .toSorted((a, b) => b.record.seq - a.record.seq)
    .map(({ record, held }) => ({ point: { record }, reasons: [...(held ? ["hold"] : []), "the clock was wrong"] }));
}

/** The plan as a table for each machine, and what came of it. */
export function textOf(
  { machines }: ForgetPlan,
  {
    forgotten,
    warnings,
    dryRun,
  }: { readonly forgotten: readonly string[]; readonly warnings: readonly string[]; readonly dryRun: boolean },
): string {
  const tables = machines.map(({ vm, domain, verdicts }) => {
    const rows = verdicts.map((verdict) => {
      const { id, time } = verdict.point.record;
      return keptBy(verdict) ? [id, time, "keep", verdict.reasons.join(", ")] : [id, time, "forget", "no rule keeps it"];
    });
    return `${vm}${domain === null ? "" : ` (domain ${domain})`}\n${table(["POINT", "TIME", "WHAT", "WHY"], rows)}\n`;
  });
  const all = machines.reduce((sum, { verdicts }) => sum + verdicts.length, 0);
  return [...tables, `${dryRun ? "Would forget" : "Forgot"} ${forgotten.length} of ${all} restore points`, ...warnings].join("\n");
}
