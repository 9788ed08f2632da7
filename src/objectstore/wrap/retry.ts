import { abortable, anySignal } from "../../lib/abort.ts";
import { systemClock } from "../../lib/clock.ts";
import { StoreError } from "../errors.ts";
import { alreadyExists } from "../keys.ts";
import type { ObjectLocks } from "../locks.ts";
import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore, PutOptions, StatOptions } from "../objectstore.ts";
import { WrappedLocks } from "./locks.ts";

export interface RetryOptions {
  /** Calls in all, the first included; default 8. */
  readonly attempts?: number;
  /** milliseconds; the pause before attempt n is a random part of `baseDelay · 2^(n-2)`; default 100 */
  readonly baseDelay?: number;
  /** milliseconds; no pause is longer; default 10,000 */
  readonly maxDelay?: number;
  /** milliseconds for all attempts and pauses of one call together, after which it rejects `timeout`; default 600,000 */
  readonly totalTime?: number;
  /** Told before each pause, for logs and metrics. */
  readonly onRetry?: (event: RetryEvent) => void;
}

export interface RetryEvent {
  /** e.g. `put packs/ab/cd` */
  readonly doing: string;
  /** The attempt that failed, from 1. */
  readonly attempt: number;
  /** milliseconds until the next one */
  readonly delay: number;
  readonly error: StoreError;
}

/** Bytes from which on a creation is looked for before it is sent once more: sending costs more than a request. */
const LARGE = 1024 * 1024;

/** One attempt, numbered from 1. */
type Work<T> = (signal: AbortSignal, attempt: number) => Promise<T>;

/**
 * Repeats what fails with a `temporary` error: exponential back-off with full jitter, bounded in attempts and in time, ended at once by the
 * caller's signal. A creation whose answer was lost is told from one that came second by reading back: equal bytes are ours. A large one is looked for
 * before it is sent again: it may have arrived, and a server that refuses it before it has read all of it may cut the connection, so that no answer comes.
 */
export class RetryingObjectStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #options: Required<Omit<RetryOptions, "onRetry">>;
  readonly #onRetry: ((event: RetryEvent) => void) | undefined;

  constructor(inner: ObjectStore, options: RetryOptions = {}) {
    this.#inner = inner;
    this.#onRetry = options.onRetry;
    this.#options = {
      attempts: options.attempts ?? 8,
      baseDelay: options.baseDelay ?? 100,
      maxDelay: options.maxDelay ?? 10_000,
      totalTime: options.totalTime ?? 600_000,
    };
  }

  get url(): string {
    return this.#inner.url;
  }

  get locks(): ObjectLocks | undefined {
    const { locks } = this.#inner;
    return locks && new WrappedLocks(locks, async (doing, options, work) => await this.#run(doing, options, work));
  }

  get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    return this.#run(`get ${key}`, options, (signal) => this.#inner.get(key, { ...options, signal }));
  }

  read(key: string, offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    return this.#run(`read ${key}`, options, (signal) => this.#inner.read(key, offset, into, { signal }));
  }

  put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<void> {
    return this.#run(`put ${key}`, options, (signal) => this.#inner.put(key, body, { ...options, signal }));
  }

  putIfAbsent(key: string, body: Uint8Array, options: PutOptions = {}): Promise<void> {
    return this.#run(`create ${key}`, options, async (signal, attempt) => {
      if (attempt > 1 && body.length >= LARGE && (await this.#isThere(key, signal))) {
        if (await this.#holds(key, body, signal)) return;
        throw alreadyExists(key);
      }
      try {
        await this.#inner.putIfAbsent(key, body, { ...options, signal });
      } catch (error) {
        // Only after a lost answer can the object that is there be this call's own.
        const isOurs = attempt > 1 && hasCode(error, "already-exists") && (await this.#holds(key, body, signal));
        if (!isOurs) throw error;
      }
    });
  }

  stat(key: string, options: StatOptions = {}): Promise<ObjectStat> {
    return this.#run(`stat ${key}`, options, (signal) => this.#inner.stat(key, { ...options, signal }));
  }

  /** A listing that breaks goes on after the last key it gave; each key it gives renews the attempts and the time. */
  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectStat, void, undefined> {
    let after = options.after;
    let listing: AsyncIterator<ObjectStat> | null = null;
    try {
      for (;;) {
        const next = await this.#run(`list ${prefix}`, options, async (signal) => {
          // The pages outlive this step, so they end with the caller's signal and not with the step's.
          listing ??= this.#inner.list(prefix, listOptions(options, after))[Symbol.asyncIterator]();
          try {
            return await abortable(listing.next(), signal);
          } catch (error) {
            listing = null;
            throw error;
          }
        });
        if (next.done === true) return;
        after = next.value.key;
        yield next.value;
      }
    } finally {
      await (listing as AsyncIterator<ObjectStat> | null)?.return?.();
    }
  }

  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#run(`delete ${key}`, options, (signal) => this.#inner.delete(key, { signal }));
  }

  now(options: CallOptions = {}): Promise<Date> {
    return this.#run("ask the time", options, (signal) => this.#inner.now({ signal }));
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  /** Where that cannot be told, the attempt itself will tell. */
  async #isThere(key: string, signal: AbortSignal): Promise<boolean> {
    return await this.#inner.stat(key, { signal }).then(
      () => true,
      () => false,
    );
  }

  async #holds(key: string, body: Uint8Array, signal: AbortSignal): Promise<boolean> {
    try {
      const stored = await this.#inner.get(key, { maxBytes: body.length, signal });
      return Buffer.compare(stored, body) === 0;
    } catch (error) {
      if (hasCode(error, "too-large") || hasCode(error, "not-found")) return false;
      throw error;
    }
  }

  async #run<T>(doing: string, options: CallOptions, work: Work<T>): Promise<T> {
    options.signal?.throwIfAborted();
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), this.#options.totalTime);
    const failures: StoreError[] = [];
    try {
      return await this.#attempts(doing, anySignal(options.signal, deadline.signal), failures, work);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (deadline.signal.aborted && error === deadline.signal.reason) throw this.#tooLong(doing, failures.at(-1));
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #attempts<T>(doing: string, signal: AbortSignal, failures: StoreError[], work: Work<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work(signal, attempt);
      } catch (error) {
        if (!(error instanceof StoreError && error.temporary)) throw error;
        failures.push(error);
        await this.#pause(doing, attempt, error, signal);
      }
    }
  }

  /** Rejects instead where no attempt is left. */
  async #pause(doing: string, attempt: number, error: StoreError, signal: AbortSignal): Promise<void> {
    const { attempts, baseDelay, maxDelay } = this.#options;
    if (attempt >= attempts) {
      const times = attempts === 1 ? "" : ` (tried ${attempts} times)`;
      throw new StoreError(error.code, error.message + times, { cause: error, ...(error.hint === undefined ? {} : { hint: error.hint }) });
    }
    const delay = Math.random() * Math.min(maxDelay, baseDelay * 2 ** (attempt - 1));
    this.#onRetry?.({ doing, attempt, delay, error });
    await systemClock.sleep(delay, signal);
  }

  #tooLong(doing: string, last: StoreError | undefined): StoreError {
    const why = last === undefined ? "" : `; the last error was: ${last.message}`;
    const details = { cause: last, hint: "look at the store and the network to it, then run again" };
    return new StoreError("timeout", `could not ${doing} within ${this.#options.totalTime / 1000} s${why}`, details);
  }
}

function hasCode(error: unknown, code: StoreError["code"]): boolean {
  return error instanceof StoreError && error.code === code;
}

function listOptions({ signal, pageSize }: ListOptions, after: string | undefined): ListOptions {
  return {
    ...(signal === undefined ? {} : { signal }),
    ...(pageSize === undefined ? {} : { pageSize }),
    ...(after === undefined ? {} : { after }),
  };
}
