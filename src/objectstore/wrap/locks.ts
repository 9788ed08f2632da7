import type { Lock, ObjectLocks, VersionPage } from "../locks.ts";
import type { CallOptions } from "../objectstore.ts";

/** How a wrapper has a call carried out. */
type Around = <T>(doing: string, options: CallOptions, work: (signal: AbortSignal | undefined) => Promise<T>) => Promise<T>;

/** Locks whose calls go the way of all others of a wrapped store. */
export class WrappedLocks implements ObjectLocks {
  readonly #inner: ObjectLocks;
  readonly #around: Around;

  constructor(inner: ObjectLocks, around: Around) {
    this.#inner = inner;
    this.#around = around;
  }

  configuration(options: CallOptions = {}): ReturnType<ObjectLocks["configuration"]> {
    return this.#around("read the bucket's Object Lock", options, async (signal) => await this.#inner.configuration(asOptions(signal)));
  }

  versions(prefix: string, from: string | null, options: CallOptions = {}): Promise<VersionPage> {
    const doing = `list versions of ${prefix}`;
    return this.#around(doing, options, async (signal) => await this.#inner.versions(prefix, from, asOptions(signal)));
  }

  find(key: string, version: string, options: CallOptions = {}): Promise<Lock | null> {
    const doing = `read the lock of ${key}`;
    return this.#around(doing, options, async (signal) => await this.#inner.find(key, version, asOptions(signal)));
  }

  extend(key: string, version: string, lock: Lock, options: CallOptions = {}): Promise<void> {
    return this.#around(`lock ${key}`, options, async (signal) => await this.#inner.extend(key, version, lock, asOptions(signal)));
  }
}

function asOptions(signal: AbortSignal | undefined): CallOptions {
  return signal === undefined ? {} : { signal };
}
