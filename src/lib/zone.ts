/** What a clock on the wall of a time zone shows. */
export interface WallTime {
  readonly year: number;
  /** 1 to 12 */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  /** Minutes that the zone is ahead of UTC at that instant. */
  readonly offset: number;
}

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
/** Days remembered of one zone: some centuries. */
const MOST_DAYS = 100_000;
const formats = new Map<string, Intl.DateTimeFormat>();
/** By zone and UTC day: minutes that the zone is ahead of UTC all that day; null where that changes on it. */
const steadyDays = new Map<string, Map<number, number | null>>();

/** The wall time of an instant. Throws `RangeError` for a zone that the IANA database does not have. */
export function wallTime(instant: Date, timeZone: string): WallTime {
  const offset = steadyOffset(Math.floor(instant.getTime() / DAY), timeZone);
  if (offset === null) return askedWallTime(instant, timeZone);
  const shown = new Date(instant.getTime() + offset * MINUTE);
  return {
    year: shown.getUTCFullYear(),
    month: shown.getUTCMonth() + 1,
    day: shown.getUTCDate(),
    hour: shown.getUTCHours(),
    minute: shown.getUTCMinutes(),
    second: shown.getUTCSeconds(),
    offset,
  };
}

/** A calendar is slow to ask, and is asked of every restore point: twice a day is enough, for no zone changes its clocks twice within two. */
function steadyOffset(day: number, timeZone: string): number | null {
  const known = steadyDays.get(timeZone) ?? new Map<number, number | null>();
  const offset = known.get(day);
  if (offset !== undefined) return offset;
  const [from, to] = [askedWallTime(new Date(day * DAY), timeZone), askedWallTime(new Date((day + 1) * DAY), timeZone)];
  // Before there were time zones, places were ahead by seconds.
  const steady = from.offset === to.offset && from.second === 0 && to.second === 0 ? from.offset : null;
  if (known.size >= MOST_DAYS) known.clear();
  steadyDays.set(timeZone, known.set(day, steady));
  return steady;
}

function askedWallTime(instant: Date, timeZone: string): WallTime {
  const parts = new Map(
    format(timeZone)
      .formatToParts(instant)
      .map(({ type, value }) => [type, Number(value)]),
  );
  const [year, month, day] = [parts.get("year") ?? 0, parts.get("month") ?? 0, parts.get("day") ?? 0];
  const [hour, minute, second] = [parts.get("hour") ?? 0, parts.get("minute") ?? 0, parts.get("second") ?? 0];
  const offset = Math.round((Date.UTC(year, month - 1, day, hour, minute, second) - instant.getTime()) / MINUTE);
  return { year, month, day, hour, minute, second, offset };
}

/**
 * The instant at which a zone's clocks first show this hour and minute. Where they are put forward over it, the instant they are put
 * forward; where they show it twice, the first time.
 */
export function instantOf(wall: Pick<WallTime, "year" | "month" | "day" | "hour" | "minute">, timeZone: string): Date {
  const asUtc = Date.UTC(wall.year, wall.month - 1, wall.day, wall.hour, wall.minute);
  // The offsets a day before and after are all there can be: no zone changes its clocks twice within two days.
  const [before, after] = [-1, 1].map((days) => wallTime(new Date(asUtc + days * 1440 * MINUTE), timeZone).offset) as [number, number];
  for (const offset of [before, after]) {
    const instant = new Date(asUtc - offset * MINUTE);
    if (wallTime(instant, timeZone).offset === offset) return instant;
  }
  return clockChange(new Date(asUtc - after * MINUTE), new Date(asUtc - before * MINUTE), timeZone);
}

/** The instant after `from` and not after `to` at which the zone's clocks change, which they do once between these. */
export function clockChange(from: Date, to: Date, timeZone: string): Date {
  const { offset } = wallTime(from, timeZone);
  // Clocks change on full minutes.
  let [low, high] = [Math.floor(from.getTime() / MINUTE), Math.ceil(to.getTime() / MINUTE)];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (wallTime(new Date(middle * MINUTE), timeZone).offset === offset) low = middle;
    else high = middle;
  }
  return new Date(high * MINUTE);
}

function format(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone);
  if (known !== undefined) return known;
  const made = new Intl.DateTimeFormat("en-US", {
    timeZone,
    calendar: "gregory",
    numberingSystem: "latn",
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  formats.set(timeZone, made);
  return made;
}
