import { InvalidArgumentError } from "commander";

import { parseBytes } from "../lib/bytes.ts";
import { errorText } from "../lib/errors.ts";
import { wallTime } from "../lib/zone.ts";

const MOST_KEPT = 10_000;
const MOST_HOURS = 876_000;
const HOUR = 3600;
const LEAST_LOCK_DAYS = 7;

// What a flag says, read where commander asks for it: each throws InvalidArgumentError.

export function size(text: string): number {
  try {
    return parseBytes(text);
  } catch (thrown) {
    throw new InvalidArgumentError(errorText(thrown));
  }
}

/** How many points a rule keeps. */
export function kept(text: string): number {
  const count = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(count <= MOST_KEPT)) throw new InvalidArgumentError(`must be a whole number up to ${MOST_KEPT}`);
  return count;
}

/** How many requests may be sent. */
export function requests(text: string): number {
  const count = /^[1-9]\d{0,8}$/.test(text) ? Number(text) : NaN;
  if (Number.isNaN(count)) throw new InvalidArgumentError("must be a whole number from 1 to 999999999");
  return count;
}

/** Seconds for which something is locked. A third of it is left when it is renewed, so a run a day that fails once must fit in. */
export function lockPeriod(text: string): number {
  const seconds = age(text);
  if (seconds < LEAST_LOCK_DAYS * 24 * HOUR) throw new InvalidArgumentError(`must be ${LEAST_LOCK_DAYS} days or more`);
  return seconds;
}

/** A share, as `5` or `5%`. */
export function percent(text: string): number {
  const share = /^\d{1,3}(?:\.\d{1,4})?%?$/.test(text) ? Number.parseFloat(text) : NaN;
  if (!(share > 0 && share <= 100)) throw new InvalidArgumentError("must be a percentage above 0 and up to 100, such as 5 or 0.5");
  return share;
}

/** Seconds. Neither minutes nor months, which `m` would mean to one and the other. */
export function age(text: string): number {
  const parts = text === "" ? null : /^(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?$/.exec(text);
  const [weeks, days, hours] = [1, 2, 3].map((i) => Number(parts?.[i] ?? 0)) as [number, number, number];
  const total = weeks * 168 + days * 24 + hours;
  if (parts === null || total < 1 || total > MOST_HOURS)
    throw new InvalidArgumentError("must be weeks, days and hours such as 2w, 30d or 1d12h, 100 years at most");
  return total * HOUR;
}

/** A time zone that this machine knows. */
export function timeZone(text: string): string {
  try {
    wallTime(new Date(0), text);
    return text;
  } catch {
    throw new InvalidArgumentError("must be a time zone of the IANA database such as UTC or Europe/Berlin");
  }
}
