import { type ObjectStore, StoreError } from "../objectstore/index.ts";
import { damaged } from "./format/errors.ts";

export interface TryGetOptions {
  readonly maxBytes: number;
  readonly signal?: AbortSignal;
}

/** An object's bytes, or null where there is none. Rejects `damaged` for one that is longer than any of its kind. */
export async function tryGet(store: ObjectStore, at: string, options: TryGetOptions): Promise<Uint8Array | null> {
  try {
    return await store.get(at, options);
  } catch (thrown) {
    if (!(thrown instanceof StoreError)) throw thrown;
    if (thrown.code === "not-found") return null;
    if (thrown.code === "too-large") throw damaged(thrown.message, thrown);
    throw thrown;
  }
}

/** Whether any object's key begins with `prefix`. */
export async function hasAny(store: ObjectStore, prefix: string, signal?: AbortSignal): Promise<boolean> {
  const listing = store.list(prefix, signal === undefined ? {} : { signal })[Symbol.asyncIterator]();
  const first = await listing.next();
  await listing.return?.();
  return first.done !== true;
}

/** Whether there is an object of this very key, by the store's answer for it: what no list need show. */
export async function isThere(store: ObjectStore, at: string, signal?: AbortSignal): Promise<boolean> {
  try {
    await store.stat(at, signal === undefined ? {} : { signal });
    return true;
  } catch (thrown) {
    if (thrown instanceof StoreError && thrown.code === "not-found") return false;
    throw thrown;
  }
}
