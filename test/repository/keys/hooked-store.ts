import type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore } from "../../../src/objectstore/index.ts";

/** A store before each of whose calls something else is done: what another program does between two steps of this one. */
export class HookedStore implements ObjectStore {
  readonly url = "hooked:";
  readonly #inner: ObjectStore;
  readonly #before: (ordinal: number) => Promise<void>;
  calls = 0;

  constructor(inner: ObjectStore, before: (ordinal: number) => Promise<void>) {
    this.#inner = inner;
    this.#before = before;
  }

  async get(key: string, options?: GetOptions): Promise<Uint8Array> {
    await this.#before(++this.calls);
    return await this.#inner.get(key, options);
  }

  async read(key: string, offset: number, into: Uint8Array, options?: CallOptions): Promise<void> {
    await this.#before(++this.calls);
    await this.#inner.read(key, offset, into, options);
  }

  async put(key: string, body: Uint8Array, options?: CallOptions): Promise<void> {
    await this.#before(++this.calls);
    await this.#inner.put(key, body, options);
  }

  async putIfAbsent(key: string, body: Uint8Array, options?: CallOptions): Promise<void> {
    await this.#before(++this.calls);
    await this.#inner.putIfAbsent(key, body, options);
  }

  async stat(key: string, options?: CallOptions): Promise<ObjectStat> {
    await this.#before(++this.calls);
    return await this.#inner.stat(key, options);
  }

  async *list(prefix: string, options?: ListOptions): AsyncGenerator<ObjectStat, void, undefined> {
    await this.#before(++this.calls);
    yield* this.#inner.list(prefix, options);
  }

  async delete(key: string, options?: CallOptions): Promise<void> {
    await this.#before(++this.calls);
    await this.#inner.delete(key, options);
  }

  async now(options?: CallOptions): Promise<Date> {
    return await this.#inner.now(options);
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }
}
