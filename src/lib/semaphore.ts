interface Waiter {
  readonly amount: number;
  readonly grant: () => void;
}

/**
 * Hands out at most `capacity` units at a time (calls, bytes in flight, …), first come first served, so that a large request
 * cannot be starved by small ones.
 */
export class Semaphore {
  readonly capacity: number;
  readonly #waiting: Waiter[] = [];
  #free: number;

  constructor(capacity: number) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) throw new RangeError(`a semaphore holds 1 or more units, not ${capacity}`);
    this.capacity = capacity;
    this.#free = capacity;
  }

  /** units nobody holds */
  get free(): number {
    return this.#free;
  }

  /**
   * Waits for `amount` units (more than `capacity` counts as all of it) and resolves with the function that gives them back;
   * calling that again does nothing. Rejects with `signal.reason`, holding nothing, when `signal` aborts first.
   */
  async acquire(signal?: AbortSignal, amount = 1): Promise<() => void> {
    signal?.throwIfAborted();
    const units = Math.min(amount, this.capacity);
    if (this.#waiting.length === 0 && units <= this.#free) this.#free -= units;
    else await this.#wait(units, signal);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#free += units;
      this.#grantWaiting();
    };
  }

  /** Runs `work` while holding `amount` units; they are given back however it ends. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal, amount = 1): Promise<T> {
    const release = await this.acquire(signal, amount);
    try {
      return await work();
    } finally {
      release();
    }
  }

  #wait(amount: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        amount,
        grant: () => {
          signal?.removeEventListener("abort", leave);
          resolve();
        },
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal?.reason as Error);
        // Whoever stood behind a large request may fit now.
        this.#grantWaiting();
      };
      this.#waiting.push(waiter);
      signal?.addEventListener("abort", leave, { once: true });
    });
  }

  #grantWaiting(): void {
    for (let next = this.#waiting[0]; next !== undefined && next.amount <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.amount;
      next.grant();
    }
  }
}
