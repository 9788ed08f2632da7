/** Left of a period when a lock is renewed at the latest, and how much earlier some are, so that what was written in a day is not renewed in one. */
const MARGIN = 1 / 3;
const SPREAD = 1 / 6;

export const HOUR_MS = 3_600_000;

/** Whole hours since 1970 that are over by then: what a lock is said to last is never longer than it does. */
export function hourOf(time: Date): number {
  return Math.floor(time.getTime() / HOUR_MS);
}

export function timeOf(hour: number): Date {
  return new Date(hour * HOUR_MS);
}

/** Whether a lock that ends then is to be extended. @param name of the object, as `lockName` gives it */
export function isDue(name: string, until: number, { at, periodMs }: { readonly at: Date; readonly periodMs: number }): boolean {
  return until * HOUR_MS - at.getTime() < periodMs * (MARGIN + SPREAD * place(name));
}

/** A number from 0 to below 1 for each name; those of the packs of one run lie evenly. */
function place(name: string): number {
  const run = Number.parseInt(name.slice(0, 8), 16);
  const ordinal = Number.parseInt(name.slice(-8), 16);
  // 2³² divided by the golden ratio: multiples of it fill the circle evenly, however many there are.
  return ((run + Math.imul(ordinal, 0x9e_37_79_b1)) >>> 0) / 2 ** 32;
}
