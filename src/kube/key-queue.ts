/**
 * Keys that wait for work, first come first served. A key is there once, however often it was added, and never in two hands: added while
 * somebody works on it, it waits until that work is done.
 */
export class KeyQueue {
  /** waiting, with the moment it was added; in the order of their turn */
  readonly #waiting = new Map<string, number>();
  readonly #taken = new Set<string>();
  /** added again while taken */
  readonly #again = new Map<string, number>();

  /** Keys that could be taken. */
  get depth(): number {
    return this.#waiting.size;
  }

  /** Keys that somebody works on. */
  get inHand(): number {
    return this.#taken.size;
  }

  /** The moment the one that waits longest was added. */
  get oldest(): number | undefined {
    return this.#waiting.values().next().value;
  }

  add(key: string, now: number): void {
    if (this.#taken.has(key)) {
      if (!this.#again.has(key)) this.#again.set(key, now);
    } else if (!this.#waiting.has(key)) {
      this.#waiting.set(key, now);
    }
  }

  /** The next key; it is in the caller's hand until `done`. */
  take(): { readonly key: string; readonly addedAt: number } | undefined {
    const [next] = this.#waiting;
    if (next === undefined) return undefined;
    const [key, addedAt] = next;
    this.#waiting.delete(key);
    this.#taken.add(key);
    return { key, addedAt };
  }

  done(key: string): void {
    this.#taken.delete(key);
    const again = this.#again.get(key);
    if (again === undefined) return;
    this.#again.delete(key);
    this.#waiting.set(key, again);
  }

  /** Forgets what waits. */
  clear(): void {
    this.#waiting.clear();
    this.#again.clear();
  }
}
