import { type WallTime, wallTime } from "../lib/zone.ts";

/** A restore point of one virtual machine, as far as retention cares. */
export interface RetainedPoint {
  readonly id: string;
  readonly time: Date;
  /** Null: not known yet. */
  readonly ready: boolean | null;
  readonly hold: boolean;
}

/** A policy's rules. A count of 0 is no rule. */
export interface RetentionRules {
  readonly keepLast?: number;
  readonly keepHourly?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly keepMonthly?: number;
  readonly keepYearly?: number;
  readonly keepWithinSeconds?: number;
  /** The newest Ready points that stay whatever the rules say. Default: 1. */
  readonly minimumRestorePoints?: number;
}

export interface RetentionVerdict<Point extends RetainedPoint = RetainedPoint> {
  readonly point: Point;
  /** Why it stays, such as `daily 2026-11-20`. None: it is to be forgotten. */
  readonly reasons: readonly string[];
}

/** A rule that counts stretches of time, each held by its last Ready point. */
interface Period {
  readonly word: string;
  readonly rule: "keepHourly" | "keepDaily" | "keepWeekly" | "keepMonthly" | "keepYearly";
  /** The name of the stretch; another stretch has another name. */
  readonly name: (wall: WallTime) => string;
}

const periods: readonly Period[] = [
  { word: "hourly", rule: "keepHourly", name: hourOf },
  { word: "daily", rule: "keepDaily", name: dayOf },
  { word: "weekly", rule: "keepWeekly", name: weekOf },
  { word: "monthly", rule: "keepMonthly", name: (wall) => `${wall.year}-${pad(wall.month)}` },
  { word: "yearly", rule: "keepYearly", name: (wall) => String(wall.year) },
];

interface Entry<Point extends RetainedPoint> {
  readonly point: Point;
  readonly reasons: string[];
}

/**
 * Which points of one virtual machine stay, newest first, and why. A point stays when any rule keeps it, so another rule never forgets more.
 *
 * As in restic, every rule looks at all points for itself, only stretches that have a point count, each is held by its last one, and
 * `keepWithin` counts back from the newest point, not from now: a machine that is no longer backed up loses nothing. Unlike restic, the
 * oldest point has no place of its own while a rule still has room.
 *
 * Only Ready points fill a place. One that is not Ready stays as long as its stretch of time does, and one whose state is not known stays.
 */
export function planRetention<Point extends RetainedPoint>(
  points: readonly Point[],
  rules: RetentionRules,
  timeZone: string,
): readonly RetentionVerdict<Point>[] {
  const entries = points.toSorted(newestFirst).map((point) => ({ point, reasons: firstReasons(point) }));
  const newest = entries[0];
  if (newest === undefined) return entries;
  if (newest.point.ready !== true) return keepAll(entries, "the newest restore point is not ready");
  if (!hasRule(rules)) return keepAll(entries, "no rule is set");
  newest.reasons.push("newest");
  const { minimumRestorePoints = 1, keepLast = 0, keepWithinSeconds = 0 } = rules;
  keepNewest(entries, minimumRestorePoints, () => "minimum");
  keepNewest(entries, keepLast, (place) => `last ${place}`);
  const wallOf = wallTimes(timeZone);
  for (const period of periods) keepPeriods(entries, period, { count: rules[period.rule], wallOf });
  keepWithin(entries, newest.point.time, keepWithinSeconds);
  return entries;
}

/** Counts for a status: those that stay, those that only `hold` keeps among them, and those that are to be forgotten. */
export function retentionPreview(verdicts: readonly RetentionVerdict[]): {
  readonly keep: number;
  readonly forget: number;
  readonly held: number;
} {
  const keep = verdicts.filter(({ reasons }) => reasons.length > 0);
  const held = keep.filter(({ reasons }) => reasons.length === 1 && reasons[0] === "hold").length;
  return { keep: keep.length, forget: verdicts.length - keep.length, held };
}

function firstReasons({ hold, ready }: RetainedPoint): string[] {
  return [...(hold ? ["hold"] : []), ...(ready === null ? ["its state is not known yet"] : [])];
}

function newestFirst(a: RetainedPoint, b: RetainedPoint): number {
  if (a.time.getTime() !== b.time.getTime()) return b.time.getTime() - a.time.getTime();
  if (a.id === b.id) return 0;
  return a.id < b.id ? 1 : -1;
}

function hasRule(rules: RetentionRules): boolean {
  return [rules.keepLast, rules.keepWithinSeconds, ...periods.map(({ rule }) => rules[rule])].some((value) => (value ?? 0) > 0);
}

function keepAll<Point extends RetainedPoint>(entries: readonly Entry<Point>[], reason: string): readonly RetentionVerdict<Point>[] {
  for (const { reasons } of entries) reasons.push(reason);
  return entries;
}

function keepNewest(entries: readonly Entry<RetainedPoint>[], count: number, reason: (place: number) => string): void {
  let place = 0;
  for (const { point, reasons } of entries) {
    if (place >= count) return;
    if (point.ready === true) reasons.push(reason((place += 1)));
    else if (point.ready === false) reasons.push(unready(reason(place + 1)));
  }
}

function keepPeriods(
  entries: readonly Entry<RetainedPoint>[],
  { word, name }: Period,
  { count = 0, wallOf }: { readonly count: number | undefined; readonly wallOf: (point: RetainedPoint) => WallTime },
): void {
  if (count <= 0) return;
  const kept = new Set<string>();
  const damaged: { readonly reasons: string[]; readonly stretch: string }[] = [];
  for (const { point, reasons } of entries) {
    const stretch = name(wallOf(point));
    if (point.ready === false) damaged.push({ reasons, stretch });
    if (point.ready !== true || kept.has(stretch)) continue;
    if (kept.size === count) break;
    kept.add(stretch);
    reasons.push(`${word} ${stretch}`);
  }
  for (const { reasons, stretch } of damaged) if (kept.has(stretch)) reasons.push(unready(`${word} ${stretch}`));
}

/** The wall time of a point, looked up once for all rules: that is most of what a retention takes. */
function wallTimes(timeZone: string): (point: RetainedPoint) => WallTime {
  const known = new Map<RetainedPoint, WallTime>();
  return (point) => {
    const wall = known.get(point) ?? wallTime(point.time, timeZone);
    known.set(point, wall);
    return wall;
  };
}

function keepWithin(entries: readonly Entry<RetainedPoint>[], newest: Date, seconds: number): void {
  if (seconds <= 0) return;
  for (const { point, reasons } of entries) {
    if (newest.getTime() - point.time.getTime() < seconds * 1000) reasons.push(`within ${lengthOf(seconds)}`);
  }
}

function unready(reason: string): string {
  return `not ready, as long as ${reason}`;
}

/** An hour that clocks show twice is two, so its distance from UTC is part of its name. */
function hourOf(wall: WallTime): string {
  const distance = Math.abs(wall.offset);
  return `${dayOf(wall)} ${pad(wall.hour)}:00${wall.offset < 0 ? "-" : "+"}${pad(Math.floor(distance / 60))}:${pad(distance % 60)}`;
}

function dayOf(wall: WallTime): string {
  return `${wall.year}-${pad(wall.month)}-${pad(wall.day)}`;
}

/** ISO 8601: weeks begin on Monday, and belong to the year that has their Thursday. */
function weekOf(wall: WallTime): string {
  const day = new Date(Date.UTC(wall.year, wall.month - 1, wall.day));
  const thursday = new Date(day.getTime() + (4 - (day.getUTCDay() || 7)) * 86_400_000);
  const year = thursday.getUTCFullYear();
  return `${year}-W${pad(Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / 86_400_000 / 7) + 1)}`;
}

function lengthOf(seconds: number): string {
  const units: readonly [number, string][] = [
    [86_400, "d"],
    [3600, "h"],
    [60, "m"],
  ];
  const [size, unit] = units.find(([length]) => seconds % length === 0) ?? [1, "s"];
  return `${seconds / size}${unit}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
