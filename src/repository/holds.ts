import { type ObjectStore, StoreError } from "../objectstore/index.ts";
import { holdAt, HOLDS, parsePointId, parsePointKey, pointId } from "./layout.ts";

/**
 * Holds, FORMAT.md §9: while there is an object for a point, nothing forgets or removes it. Only that it is there counts, so that nobody undoes
 * a hold by overwriting it; taking it away is a deletion, which a writer's credentials need not allow.
 */
export class Holds {
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** Ids of the held points, of all machines or one. */
  async list({ vmId, signal }: { readonly vmId?: string; readonly signal?: AbortSignal } = {}): Promise<ReadonlySet<string>> {
    const held = new Set<string>();
    for await (const { key } of this.#store.list(HOLDS + (vmId === undefined ? "" : `${vmId}/`), optional(signal))) {
      const place = parsePointKey(key);
      if (place !== null) held.add(pointId(place.vmId, place.seq));
    }
    return held;
  }

  async has(id: string, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.#store.stat(this.#at(id), optional(signal));
      return true;
    } catch (thrown) {
      if (thrown instanceof StoreError && thrown.code === "not-found") return false;
      throw thrown;
    }
  }

  async put(id: string, signal?: AbortSignal): Promise<void> {
    await this.#store.put(this.#at(id), new Uint8Array(0), optional(signal));
  }

  async remove(id: string, signal?: AbortSignal): Promise<void> {
    await this.#store.delete(this.#at(id), optional(signal));
  }

  #at(id: string): string {
    const { vmId, seq } = parsePointId(id);
    return holdAt(vmId, seq);
  }
}

function optional(signal: AbortSignal | undefined): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
