import { setTimeout as delay } from "node:timers/promises";

/** Time as seen by code that a test must be able to run at any hour. */
export interface Clock {
  /** The time of day of this machine; it may jump. */
  now(): Date;
  /** milliseconds since some moment; never goes back */
  monotonic(): number;
  /** Resolves after `ms` milliseconds; rejects with `signal.reason` when that aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's own clocks. */
export const systemClock: Clock = {
  now: () => new Date(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    signal?.throwIfAborted();
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      // Node wraps the reason in an AbortError of its own; callers were promised the reason.
      signal?.throwIfAborted();
      throw error;
    }
  },
};
