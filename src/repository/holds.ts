import { mapConcurrently } from "../lib/concurrency.ts";
import type { ObjectStore } from "../objectstore/index.ts";
import { holdAt, HOLDS, parsePointId, parsePointKey, pointId, POINTS } from "./layout.ts";
import { isThere } from "./try-get.ts";

const PARALLEL = 16;

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

  /** Ids of the held points of some machines: what a list leaves out is asked for by name, for what is not held may be given up for ever. */
  async of(machines: readonly string[], signal: AbortSignal): Promise<string[]> {
    const vms = new Set(machines);
    const held = new Set([...(await this.list({ signal }))].filter((id) => vms.has(parsePointId(id).vmId)));
    const others: string[] = [];
    for await (const { key } of this.#store.list(POINTS, { signal })) {
      const { vmId, seq } = parsePointKey(key) ?? { vmId: "", seq: 0 };
      if (vms.has(vmId) && !held.has(pointId(vmId, seq))) others.push(pointId(vmId, seq));
    }
    await mapConcurrently(others, PARALLEL, async (id) => {
      if (await this.has(id, signal)) held.add(id);
    });
    return [...held];
  }

  async has(id: string, signal?: AbortSignal): Promise<boolean> {
    return await isThere(this.#store, this.#at(id), signal);
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
