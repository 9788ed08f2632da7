import type { ObjectLocks } from "../locks.ts";
import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore, PutOptions, StatOptions } from "../objectstore.ts";
import { WrappedLocks } from "./locks.ts";

export type StoreOperation = "get" | "read" | "put" | "putIfAbsent" | "stat" | "list" | "delete" | "now" | "lock";

/** Calls by operation, failed ones included; a `list` counts once per page of 1,000 begun, all that concerns locks as `lock`. */
export type RequestCounts = Readonly<Record<StoreOperation, number>>;

const listPage = 1000;

/** Counts the calls that pass, and the bytes of bodies that were moved. Put it below the retries to see them, above to see the work. */
export class CountingObjectStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #counts: Record<StoreOperation, number> = {
    get: 0,
    read: 0,
    put: 0,
    putIfAbsent: 0,
    stat: 0,
    list: 0,
    delete: 0,
    now: 0,
    lock: 0,
  };
  #bytesUp = 0;
  #bytesDown = 0;

  constructor(inner: ObjectStore) {
    this.#inner = inner;
  }

  get url(): string {
    return this.#inner.url;
  }

  get locks(): ObjectLocks | undefined {
    const { locks } = this.#inner;
    return (
      locks &&
      new WrappedLocks(locks, (_doing, { signal }, work) => {
        this.#counts.lock++;
        return work(signal);
      })
    );
  }

  get counts(): RequestCounts {
    return { ...this.#counts };
  }

  /** bytes of objects written */
  get bytesUp(): number {
    return this.#bytesUp;
  }

  /** bytes of objects read */
  get bytesDown(): number {
    return this.#bytesDown;
  }

  async get(key: string, options?: GetOptions): Promise<Uint8Array> {
    this.#counts.get++;
    const bytes = await this.#inner.get(key, options);
    this.#bytesDown += bytes.length;
    return bytes;
  }

  async read(key: string, offset: number, into: Uint8Array, options?: CallOptions): Promise<void> {
    this.#counts.read++;
    await this.#inner.read(key, offset, into, options);
    this.#bytesDown += into.length;
  }

  async put(key: string, body: Uint8Array, options?: PutOptions): Promise<void> {
    this.#counts.put++;
    await this.#inner.put(key, body, options);
    this.#bytesUp += body.length;
  }

  async putIfAbsent(key: string, body: Uint8Array, options?: PutOptions): Promise<void> {
    this.#counts.putIfAbsent++;
    await this.#inner.putIfAbsent(key, body, options);
    this.#bytesUp += body.length;
  }

  stat(key: string, options?: StatOptions): Promise<ObjectStat> {
    this.#counts.stat++;
    return this.#inner.stat(key, options);
  }

  async *list(prefix: string, options?: ListOptions): AsyncGenerator<ObjectStat, void, undefined> {
    let seen = 0;
    this.#counts.list++;
    for await (const object of this.#inner.list(prefix, options)) {
      if (seen > 0 && seen % listPage === 0) this.#counts.list++;
      seen++;
      yield object;
    }
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    this.#counts.delete++;
    return this.#inner.delete(key, options);
  }

  now(options?: CallOptions): Promise<Date> {
    this.#counts.now++;
    return this.#inner.now(options);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
