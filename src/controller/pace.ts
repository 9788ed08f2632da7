/** Lets something happen only so often, by name. */
export class Pace {
  readonly #last = new Map<string, number>();
  readonly #most: number;

  /** @param most names remembered; the oldest goes first */
  constructor(most: number = 10_000) {
    this.#most = most;
  }

  /** When it last happened, on `performance.now()`'s clock; null where that is not remembered. */
  last(name: string): number | null {
    return this.#last.get(name) ?? null;
  }

  /** Whether it may happen now, that is, whether it last did at least `everyMs` ago. Counts as happening. */
  allows(name: string, everyMs: number): boolean {
    const now = performance.now();
    const last = this.#last.get(name);
    if (last !== undefined && now - last < everyMs) return false;
    this.#last.delete(name);
    this.#last.set(name, now);
    if (this.#last.size > this.#most) this.#last.delete(this.#last.keys().next().value as string);
    return true;
  }
}
