import { GRANULE } from "../format/constants.ts";
import type { Reference } from "../format/reference.ts";
import type { GranuleRun } from "../map/granules.ts";
import type { ImageMap } from "../map/image-map.ts";

/** So much is stored again in any run, if what changed is not more. */
const FLOOR = 256 * 1024 * 1024;
/** For each node of the map that is looked at, so much may be stored again: what is read of the map is a twentieth of it. */
const NODE = 32 * 1024;

/** What did not change and is recorded anew, between what changed. */
export type Again =
  /** a granule that is stored again */
  | { readonly kind: "granule"; readonly first: number }
  /** a node of the map, named by its first granule, that is written again */
  | { readonly kind: "node"; readonly first: number; readonly level: number };

export interface CompactionOptions {
  /** sparse packs, by id */
  readonly packs: ReadonlySet<string>;
  /** granule at which to begin to look for what lies in them */
  readonly from: number;
  /** bytes of the disk that changed, as far as that is known before it is read */
  readonly changedBytes: number;
}

/**
 * What of one disk is stored again in one run, so that packs of which little is needed can go (FORMAT.md §10). It goes through the disk by place, a piece
 * in each run, for as many bytes as changed: all that such a pack has of the disk is taken by the time it was once gone through.
 */
export class Compaction {
  readonly #packs: ReadonlySet<string>;
  readonly #changedBytes: number;
  /** granule at which the next run goes on */
  next: number;
  #granted = 0;

  constructor({ packs, from, changedBytes }: CompactionOptions) {
    this.#packs = packs;
    this.#changedBytes = changedBytes;
    this.next = from;
  }

  isSparse({ pack }: Pick<Reference, "pack">): boolean {
    return this.#packs.has(pack);
  }

  /** Whether one more granule may be stored again; counts it. @param newBytes what was new so far */
  grant(newBytes: number): boolean {
    if (this.#granted + GRANULE > Math.max(FLOOR, this.#changedBytes, newBytes)) return false;
    this.#granted += GRANULE;
    return true;
  }

  /**
   * What changed, and between it what lies in sparse packs, in ascending order.
   * @param base image that everything else is taken over from
   * @param end granule from which on the base is not trusted
   */
  async *amid(
    changed: AsyncIterable<GranuleRun>,
    { base, end }: { readonly base: ImageMap; readonly end: number },
  ): AsyncGenerator<GranuleRun | Again, void, undefined> {
    const found = this.#find(base, end);
    const take = async (): Promise<Again | null> => (await found.next()).value ?? null;
    try {
      let again = await take();
      for await (const run of changed) {
        for (; again !== null && again.first < run.first; again = await take()) yield again;
        yield run;
        // What changed is recorded anyway, and the nodes above it with it.
        for (; again !== null && again.first < run.first + run.count; again = await take()) this.#giveBack(again);
      }
      for (; again !== null; again = await take()) yield again;
    } finally {
      await found.return();
    }
  }

  /** What of the base lies in sparse packs, until as much was granted as may be. */
  async *#find(base: ImageMap, end: number): AsyncGenerator<Again, void, undefined> {
    let nodes = Math.max(FLOOR, this.#changedBytes) / NODE;
    for await (const { reference, level, first } of base.entries(this.next)) {
      if (first >= end) break;
      if (level >= 0) nodes -= 1;
      const isWanted = this.isSparse(reference);
      if (nodes < 0 || (isWanted && level < 0 && !this.grant(0))) {
        this.next = first;
        return;
      }
      if (isWanted) yield level < 0 ? { kind: "granule", first } : { kind: "node", first, level };
    }
    this.next = 0;
  }

  #giveBack({ kind }: Again): void {
    if (kind === "granule") this.#granted -= GRANULE;
  }
}
