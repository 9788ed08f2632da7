/** How far apart good clocks may be, ms. */
const SKEW_MS = 3_600_000;

/** A restore point by its number among those of its machine, and the time it claims. */
export interface TimedPoint {
  readonly sequence: number;
  readonly time: Date;
}

/**
 * The newest point that is later than one made after it, or than now, by more than clocks differ; null where there is none. Counting back from such a
 * one would forget what is young, so no rule is to be applied to its machine's points.
 */
export function firstOutOfTime<Point extends TimedPoint>(points: readonly Point[], now: Date): Point | null {
  let soonest = now.getTime();
  for (const point of points.toSorted((a, b) => b.sequence - a.sequence)) {
    const time = point.time.getTime();
    if (!(time <= soonest + SKEW_MS)) return point;
    soonest = Math.min(soonest, time);
  }
  return null;
}
