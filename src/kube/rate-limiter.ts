/** `urgent` is for what keeps leadership alone; `low` for mass writes, which can wait. */
export type Lane = "urgent" | "normal" | "low";

export interface RateLimits {
  /** requests a second, in the long run */
  readonly qps: number;
  /** requests at once after a rest */
  readonly burst: number;
}

interface Waiter {
  readonly grant: () => void;
}

/**
 * A token bucket with three lanes. The urgent lane goes first, the normal one next, and the low lane leaves half of the burst untouched, so
 * that a call of the normal lane never waits behind ten thousand of the low one.
 */
export class RateLimiter {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #reserve: number;
  readonly #waiting: Readonly<Record<Lane, Waiter[]>> = { urgent: [], normal: [], low: [] };
  #tokens: number;
  #filledAt = performance.now();
  #timer: NodeJS.Timeout | null = null;

  constructor({ qps, burst }: RateLimits) {
    if (!(qps > 0) || !(burst >= 1)) throw new RangeError(`a rate of ${qps} a second in bursts of ${burst} lets nothing through`);
    this.#perMs = qps / 1000;
    this.#burst = burst;
    this.#reserve = Math.floor(burst / 2);
    this.#tokens = burst;
  }

  /** Calls that wait for their turn. */
  waiting(lane: Lane): number {
    return this.#waiting[lane].length;
  }

  /** Resolves when a request may be made; rejects with `signal.reason`, having taken nothing, when that aborts first. */
  take(lane: Lane, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const queue = this.#waiting[lane];
      const waiter: Waiter = {
        grant: () => {
          signal?.removeEventListener("abort", leave);
          resolve();
        },
      };
      const leave = (): void => {
        queue.splice(queue.indexOf(waiter), 1);
        reject(signal?.reason as Error);
      };
      queue.push(waiter);
      signal?.addEventListener("abort", leave, { once: true });
      this.#grant();
    });
  }

  #grant(): void {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#filledAt) * this.#perMs);
    this.#filledAt = now;
    this.#grantLane("urgent", 0);
    this.#grantLane("normal", 0);
    this.#grantLane("low", this.#reserve);
    this.#sleep();
  }

  #grantLane(lane: Lane, reserve: number): void {
    while (this.#tokens >= reserve + 1) {
      const waiter = this.#waiting[lane].shift();
      if (waiter === undefined) return;
      this.#tokens -= 1;
      waiter.grant();
    }
  }

  #sleep(): void {
    const needed =
      this.#waiting.urgent.length + this.#waiting.normal.length > 0 ? 1 : this.#waiting.low.length > 0 ? this.#reserve + 1 : null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = needed === null ? null : setTimeout(() => this.#grant(), Math.max(1, Math.ceil((needed - this.#tokens) / this.#perMs)));
  }
}
