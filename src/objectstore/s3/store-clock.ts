/** How long, in milliseconds, an observed time may be counted on from. */
const freshness = 60_000;

/** How far, in milliseconds, this machine's two clocks may part before one of them is known to have jumped or slept. */
const tolerance = 2000;

interface Observation {
  /** The store's time, milliseconds since 1970. */
  readonly store: number;
  readonly monotonic: number;
  readonly wall: number;
}

/** The time at the store by the `Date` of its last answer, counted on by this machine's monotonic clock. */
export class StoreClock {
  #last: Observation | null = null;

  /** Takes note of an HTTP response of any kind; other things are passed over. */
  observe(response: unknown): void {
    const date = dateOf(response);
    if (Number.isFinite(date)) this.#last = { store: date, monotonic: performance.now(), wall: Date.now() };
  }

  /** The store's time, or null when no answer is fresh enough to tell. */
  now(): Date | null {
    if (this.#last === null) return null;
    const elapsed = performance.now() - this.#last.monotonic;
    // A machine that was suspended counts on where it stopped; then its wall clock has moved further.
    const slept = Math.abs(Date.now() - this.#last.wall - elapsed) > tolerance;
    return elapsed > freshness || slept ? null : new Date(this.#last.store + elapsed);
  }
}

function dateOf(response: unknown): number {
  if (typeof response !== "object" || response === null || !("headers" in response)) return Number.NaN;
  const { headers } = response;
  if (typeof headers !== "object" || headers === null || !("date" in headers)) return Number.NaN;
  return typeof headers.date === "string" ? Date.parse(headers.date) : Number.NaN;
}
