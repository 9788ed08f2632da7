import { errorText } from "../lib/errors.ts";
import { type Logger, silentLogger } from "../lib/logger.ts";
import { type BackoffOptions, backoffMs } from "./backoff.ts";
import { KeyQueue } from "./key-queue.ts";

/** What became of a key: nothing more to do, or to be looked at again after some time though nothing failed. */
export type Outcome = void | { readonly againInMs: number };

export interface WorkQueueOptions extends Partial<BackoffOptions> {
  /** For logs and metrics. */
  readonly name: string;
  /** Keys worked on at the same time; default 1. */
  readonly workers?: number;
  /** Does the work for one key. What it throws makes the key come back after a wait that doubles with each failure in a row. */
  readonly work: (key: string, signal: AbortSignal) => Promise<Outcome>;
  /** milliseconds that work under way is given to end when the queue is stopped, before its signal aborts; default 20,000 */
  readonly drainMs?: number;
  readonly logger?: Logger;
}

/** For metrics. Sums only grow; times in milliseconds. */
export interface WorkQueueFigures {
  readonly depth: number;
  readonly inHand: number;
  /** Keys that wait for a later time. */
  readonly delayed: number;
  /** how long the first in line waits already */
  readonly oldestMs: number;
  /** how long the oldest work under way takes already */
  readonly longestRunningMs: number;
  readonly done: number;
  readonly failed: number;
  readonly waitedMs: number;
  readonly workedMs: number;
}

/** milliseconds that keys whose work waits for nothing may keep the event loop from turning */
const HOLD_MS = 10;

/** Node's timers go no further. */
const MAX_TIMER = 2 ** 31 - 1;

/** Keys of objects to look at, and the workers that do. Level-based: a key says that something may have changed, not what. */
export class WorkQueue {
  readonly name: string;
  readonly #options: WorkQueueOptions;
  readonly #backoff: BackoffOptions;
  readonly #logger: Logger;
  readonly #queue = new KeyQueue();
  readonly #delayed = new Map<string, { readonly at: number; readonly timer: NodeJS.Timeout }>();
  readonly #failures = new Map<string, number>();
  readonly #running = new Map<string, number>();
  readonly #sums = { done: 0, failed: 0, waitedMs: 0, workedMs: 0 };
  readonly #aborter = new AbortController();
  #state: "waiting" | "running" | "stopped" = "waiting";
  #idle: (() => void) | null = null;
  /** when this turn of the event loop came to this queue; null until it does */
  #turnBegan: number | null = null;

  constructor(options: WorkQueueOptions) {
    this.name = options.name;
    this.#options = options;
    this.#backoff = { baseMs: options.baseMs ?? 500, maxMs: options.maxMs ?? 300_000 };
    this.#logger = (options.logger ?? silentLogger).child({ queue: options.name });
  }

  /** Puts a key in line; nothing happens where it waits already. Before `run` keys are only gathered. */
  add(key: string): void {
    if (this.#state === "stopped") return;
    this.#queue.add(key, performance.now());
    this.#dispatch();
  }

  /** Puts a key in line after `ms`; of several times the soonest counts. */
  addAfter(key: string, ms: number): void {
    if (this.#state === "stopped") return;
    if (!(ms > 0)) return this.add(key);
    const at = performance.now() + ms;
    const known = this.#delayed.get(key);
    if (known !== undefined && known.at <= at) return;
    clearTimeout(known?.timer);
    const timer = setTimeout(() => this.#ripe(key), Math.min(ms, MAX_TIMER));
    this.#delayed.set(key, { at, timer });
  }

  /** The key's failures no longer count, and it is not waited for: its object is gone. */
  forget(key: string): void {
    this.#failures.delete(key);
    clearTimeout(this.#delayed.get(key)?.timer);
    this.#delayed.delete(key);
  }

  get figures(): WorkQueueFigures {
    const now = performance.now();
    const [firstRunning] = this.#running.values();
    return {
      depth: this.#queue.depth,
      inHand: this.#queue.inHand,
      delayed: this.#delayed.size,
      oldestMs: now - (this.#queue.oldest ?? now),
      longestRunningMs: now - (firstRunning ?? now),
      ...this.#sums,
    };
  }

  /** Works until `signal` aborts, and resolves when what was under way has ended. Keys still in line are dropped; once only. */
  async run(signal: AbortSignal): Promise<void> {
    if (this.#state !== "waiting") throw new Error(`the queue ${this.name} was run before`);
    this.#state = "running";
    this.#dispatch();
    if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await this.#drain(signal.reason);
  }

  #ripe(key: string): void {
    const left = (this.#delayed.get(key)?.at ?? 0) - performance.now();
    this.#delayed.delete(key);
    // A timer may be a little early, and a wait of more than 24 days takes several.
    if (left > 1) this.addAfter(key, left);
    else this.add(key);
  }

  #dispatch(): void {
    while (this.#state === "running" && this.#running.size < (this.#options.workers ?? 1)) {
      const next = this.#queue.take();
      if (next === undefined) return;
      this.#running.set(next.key, performance.now());
      this.#sums.waitedMs += performance.now() - next.addedAt;
      void this.#process(next.key);
    }
  }

  /** Never rejects. */
  async #process(key: string): Promise<void> {
    this.#noteTurn();
    try {
      const outcome = await this.#options.work(key, this.#aborter.signal);
      this.#failures.delete(key);
      if (outcome !== undefined) this.addAfter(key, outcome.againInMs);
    } catch (err) {
      this.#failed(key, err);
    }
    // Work on thirty thousand objects that are as they should be is done without a wait: leases, answers and health checks must come between.
    if (performance.now() - this.#noteTurn() > HOLD_MS) await new Promise((resolve) => setImmediate(resolve));
    this.#sums.done += 1;
    this.#sums.workedMs += performance.now() - (this.#running.get(key) ?? 0);
    this.#running.delete(key);
    this.#queue.done(key);
    if (this.#running.size === 0) this.#idle?.();
    this.#dispatch();
  }

  #noteTurn(): number {
    if (this.#turnBegan !== null) return this.#turnBegan;
    setImmediate(() => void (this.#turnBegan = null));
    return (this.#turnBegan = performance.now());
  }

  #failed(key: string, err: unknown): void {
    this.#sums.failed += 1;
    if (this.#state === "stopped") return;
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    const againInMs = Math.round(backoffMs(failures, this.#backoff));
    this.#logger.warn({ key, err, failures, againInMs }, `${key} failed and is tried again: ${errorText(err)}`);
    this.addAfter(key, againInMs);
  }

  async #drain(reason: unknown): Promise<void> {
    this.#state = "stopped";
    for (const { timer } of this.#delayed.values()) clearTimeout(timer);
    this.#delayed.clear();
    this.#queue.clear();
    if (this.#running.size === 0) return;
    const timer = setTimeout(() => this.#aborter.abort(reason), this.#options.drainMs ?? 20_000);
    await new Promise<void>((resolve) => (this.#idle = resolve));
    clearTimeout(timer);
  }
}
