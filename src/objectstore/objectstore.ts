import type { ObjectLocks } from "./locks.ts";

/**
 * The port to an object store. Adapters (`s3`, `fs`, `memory`) implement it, wrappers (`wrap/*`) add retry, limits and faults,
 * and `test/contract/objectstore.ts` says in tests what the words below promise.
 *
 * Keys are `/`-separated, relative to the store's prefix, made of `[A-Za-z0-9._-]` segments, at most 512 characters.
 * Every method may be called concurrently. Every method rejects with a `StoreError` and nothing else, save that an aborted
 * `signal` rejects with `signal.reason`.
 */
export interface ObjectStore {
  /** Where the store is, for messages; never holds a secret. */
  readonly url: string;

  /** The whole object. Rejects `not-found`; rejects `too-large` when it is larger than `maxBytes` (default 64 MiB) without reading it all. */
  get(key: string, options?: GetOptions): Promise<Uint8Array>;

  /**
   * Fills `into` with the bytes of the object from `offset`. Rejects `not-found`, and `out-of-range` when the object ends before
   * `into` is full. `into` may be backed by a SharedArrayBuffer.
   */
  read(key: string, offset: number, into: Uint8Array, options?: CallOptions): Promise<void>;

  /** Creates or replaces the object, atomically and durably. */
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<void>;

  /**
   * Creates the object, atomically and durably, only where none of that key exists; rejects `already-exists` otherwise.
   * Of any number of concurrent calls for one key exactly one succeeds.
   */
  putIfAbsent(key: string, body: Uint8Array, options?: PutOptions): Promise<void>;

  /** Size and time of the object; rejects `not-found`. */
  stat(key: string, options?: StatOptions): Promise<ObjectStat>;

  /** Objects whose key begins with `prefix`, in ascending byte order of key, starting after `after`. Pages are fetched as they are consumed. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectStat>;

  /** Removes the object; succeeds when there is none. */
  delete(key: string, options?: CallOptions): Promise<void>;

  /** The store's own clock (the `Date` of a response for S3, this machine's for fs and memory). */
  now(options?: CallOptions): Promise<Date>;

  /** Absent where single objects cannot be locked. */
  readonly locks?: ObjectLocks | undefined;

  /** Releases sockets and handles; later calls reject `closed`. */
  close(): Promise<void>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface GetOptions extends CallOptions {
  readonly maxBytes?: number;
}

export interface PutOptions extends CallOptions {
  /** of the body, where it is known: spares a store that sends it along to compute it */
  readonly crc32?: number;
}

export interface StatOptions extends CallOptions {
  /** whether the checksum that the store keeps is wanted too */
  readonly checksum?: boolean;
}

export interface ListOptions extends CallOptions {
  readonly after?: string;
  /** Objects asked for at a time, where they come in pages; default what the store gives at most. */
  readonly pageSize?: number;
}

export interface ObjectStat {
  readonly key: string;
  /** bytes */
  readonly size: number;
  readonly modified: Date;
  /** CRC-32 that the store kept of what it was sent, where that was asked for and there is one */
  readonly crc32?: number;
}
