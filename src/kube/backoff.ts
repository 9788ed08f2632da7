export interface BackoffOptions {
  /** milliseconds of the first wait */
  readonly baseMs: number;
  /** milliseconds of the longest */
  readonly maxMs: number;
}

/**
 * How long to wait after so many failures in a row (1 for the first): doubles up to `maxMs`, less up to a half by chance, so that those
 * who failed together do not come back together.
 */
export function backoffMs(failures: number, { baseMs, maxMs }: BackoffOptions): number {
  const full = Math.min(maxMs, baseMs * 2 ** Math.min(Math.max(failures, 1) - 1, 40));
  return full * (1 - Math.random() / 2);
}
