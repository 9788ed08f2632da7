import {
  alreadyExists,
  checkKey,
  checkOffset,
  checkPrefix,
  defaultMaxBytes,
  notFound,
  outOfRange,
  storeClosed,
  tooLarge,
} from "../keys.ts";
import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore } from "../objectstore.ts";

interface Stored {
  readonly bytes: Uint8Array;
  readonly modified: Date;
}

const pageSize = 1000;

/** Objects in this process's memory: for tests, and for what must not outlive the process. */
export class MemoryObjectStore implements ObjectStore {
  readonly url = "memory:";
  readonly #objects = new Map<string, Stored>();
  #sorted: readonly string[] | null = null;
  readonly #clock: () => Date;
  #closed = false;

  /** @param clock what counts as the store's own */
  constructor(clock: () => Date = () => new Date()) {
    this.#clock = clock;
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    const { bytes } = await this.#find(key, options);
    const maxBytes = options.maxBytes ?? defaultMaxBytes;
    if (bytes.length > maxBytes) throw tooLarge(key, bytes.length, maxBytes);
    return new Uint8Array(bytes);
  }

  async read(key: string, offset: number, into: Uint8Array, options: CallOptions = {}): Promise<void> {
    checkOffset(key, offset);
    const { bytes } = await this.#find(key, options);
    if (offset + into.length > bytes.length) throw outOfRange(key, offset, into.length);
    into.set(bytes.subarray(offset, offset + into.length));
  }

  async put(key: string, body: Uint8Array, options: CallOptions = {}): Promise<void> {
    await this.#begin(key, options);
    this.#store(key, body);
  }

  async putIfAbsent(key: string, body: Uint8Array, options: CallOptions = {}): Promise<void> {
    await this.#begin(key, options);
    if (this.#objects.has(key)) throw alreadyExists(key);
    this.#store(key, body);
  }

  async stat(key: string, options: CallOptions = {}): Promise<ObjectStat> {
    const { bytes, modified } = await this.#find(key, options);
    return { key, size: bytes.length, modified };
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ObjectStat, void, undefined> {
    checkPrefix(prefix);
    let after = options.after ?? "";
    for (;;) {
      await this.#ready(options);
      const page = this.#page(prefix, after);
      for (const stat of page) {
        yield stat;
        options.signal?.throwIfAborted();
      }
      const last = page.at(-1);
      if (last === undefined || page.length < pageSize) return;
      after = last.key;
    }
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    await this.#begin(key, options);
    if (this.#objects.delete(key)) this.#sorted = null;
  }

  async now(options: CallOptions = {}): Promise<Date> {
    await this.#ready(options);
    return this.#clock();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#objects.clear();
    this.#sorted = null;
  }

  async #begin(key: string, options: CallOptions): Promise<void> {
    checkKey(key);
    await this.#ready(options);
  }

  /** Gives way once, as every real store does, so that callers meet the same interleavings. */
  async #ready(options: CallOptions): Promise<void> {
    options.signal?.throwIfAborted();
    await Promise.resolve();
    options.signal?.throwIfAborted();
    if (this.#closed) throw storeClosed();
  }

  async #find(key: string, options: CallOptions): Promise<Stored> {
    await this.#begin(key, options);
    const stored = this.#objects.get(key);
    if (stored === undefined) throw notFound(key);
    return stored;
  }

  /** Keeps a copy: `slice` of a Buffer would share the caller's memory, which is used again. */
  #store(key: string, body: Uint8Array): void {
    if (!this.#objects.has(key)) this.#sorted = null;
    this.#objects.set(key, { bytes: new Uint8Array(body), modified: this.#clock() });
  }

  #page(prefix: string, after: string): ObjectStat[] {
    this.#sorted ??= [...this.#objects.keys()].toSorted((a, b) => (a < b ? -1 : 1));
    const page: ObjectStat[] = [];
    const keys = this.#sorted;
    for (let i = firstIndex(keys, (key) => key >= prefix && key > after); i < keys.length && page.length < pageSize; i++) {
      const key = keys[i];
      const stored = key === undefined ? undefined : this.#objects.get(key);
      if (key === undefined || stored === undefined || !key.startsWith(prefix)) break;
      page.push({ key, size: stored.bytes.length, modified: stored.modified });
    }
    return page;
  }
}

/** Index of the first of the ascending `keys` from which on `holds` is true. */
function firstIndex(keys: readonly string[], holds: (key: string) => boolean): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(keys[middle] ?? "")) high = middle;
    else low = middle + 1;
  }
  return low;
}
