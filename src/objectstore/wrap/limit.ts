import { systemClock } from "../../lib/clock.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import type { ObjectLocks } from "../locks.ts";
import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore, PutOptions, StatOptions } from "../objectstore.ts";
import { WrappedLocks } from "./locks.ts";

export interface LimitOptions {
  /** Calls in flight at once; the rest wait in order. */
  readonly concurrency: number;
  /** Bytes a second of objects written, averaged over the calls; unlimited where absent. */
  readonly uploadRate?: number;
  /** Bytes a second of objects read, averaged over the calls; unlimited where absent. */
  readonly downloadRate?: number;
}

/** Bounds how much is asked of a store at once and, where wished, how fast bodies move. */
export class LimitedObjectStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #slots: Semaphore;
  readonly #up: Rate | null;
  readonly #down: Rate | null;

  constructor(inner: ObjectStore, options: LimitOptions) {
    this.#inner = inner;
    this.#slots = new Semaphore(options.concurrency);
    this.#up = options.uploadRate === undefined ? null : new Rate(options.uploadRate);
    this.#down = options.downloadRate === undefined ? null : new Rate(options.downloadRate);
  }

  get url(): string {
    return this.#inner.url;
  }

  get locks(): ObjectLocks | undefined {
    const { locks } = this.#inner;
    return locks && new WrappedLocks(locks, (_doing, { signal }, work) => this.#slots.run(() => work(signal), signal));
  }

  get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    return this.#slots.run(async () => {
      const bytes = await this.#inner.get(key, options);
      // Its size is known only now, so it is paid for after the fact.
      await this.#down?.spend(bytes.length, options.signal);
      return bytes;
    }, options.signal);
  }

  read(key: string, offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    return this.#slots.run(async () => {
      await this.#down?.spend(into.length, options.signal);
      await this.#inner.read(key, offset, into, options);
    }, options.signal);
  }

  put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<void> {
    return this.#slots.run(async () => {
      await this.#up?.spend(body.length, options.signal);
      await this.#inner.put(key, body, options);
    }, options.signal);
  }

  putIfAbsent(key: string, body: Uint8Array, options: PutOptions = {}): Promise<void> {
    return this.#slots.run(async () => {
      await this.#up?.spend(body.length, options.signal);
      await this.#inner.putIfAbsent(key, body, options);
    }, options.signal);
  }

  stat(key: string, options: StatOptions = {}): Promise<ObjectStat> {
    return this.#slots.run(() => this.#inner.stat(key, options), options.signal);
  }

  /** Holds a slot while it fetches and none while its consumer works, who may well call the store. */
  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectStat, void, undefined> {
    const listing = this.#inner.list(prefix, options)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#slots.run(() => listing.next(), options.signal);
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await listing.return?.();
    }
  }

  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#slots.run(() => this.#inner.delete(key, options), options.signal);
  }

  now(options: CallOptions = {}): Promise<Date> {
    return this.#slots.run(() => this.#inner.now(options), options.signal);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

/** Spreads spending over time: each spender waits until all spent before it has been paid for. One quarter second may be saved up. */
class Rate {
  readonly #bytesPerMillisecond: number;
  /** `performance.now()` at which everything spent so far is paid */
  #paidAt = 0;

  constructor(bytesPerSecond: number) {
    this.#bytesPerMillisecond = bytesPerSecond / 1000;
  }

  async spend(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const now = performance.now();
    const start = Math.max(this.#paidAt, now - 250);
    this.#paidAt = start + bytes / this.#bytesPerMillisecond;
    if (this.#paidAt > now) await systemClock.sleep(this.#paidAt - now, signal);
  }
}
