import { mapConcurrently } from "../../lib/concurrency.ts";
import { type ObjectStat, StoreError } from "../../objectstore/index.ts";
import { packAt } from "../layout.ts";
import type { Repository } from "../repository.ts";
import { type PackSums, readSums } from "../sums.ts";
import type { PackDamage, PackProgress } from "./pack-check.ts";

const PARALLEL = 16;
const RUN_DIGITS = 24;

/** How the packs that were asked for could be compared. */
export interface SumCounts {
  /** packs of which the store said a checksum, and the repository knows which it must be */
  readonly compared: number;
  /** packs of which the repository does not know it: they were stored by a version that wrote none down */
  readonly unrecorded: number;
  /** packs of which the store keeps none */
  readonly unkept: number;
}

/**
 * Compares what the store says it keeps with what was sent to it, without reading any of it: a request for each pack and one for each run that
 * wrote some. A store that keeps no checksum of the first packs is not asked for all the others.
 * @param packs those of one run after the other
 */
export async function compareSums(
  repository: Repository,
  packs: readonly string[],
  options: { readonly signal: AbortSignal; readonly onProgress?: (progress: PackProgress) => void },
): Promise<SumCounts & { readonly damages: PackDamage[] }> {
  const comparison = new Comparison(repository, options.signal);
  let done = 0;
  for (const [run, ofRun] of Map.groupBy(packs, (pack) => pack.slice(0, RUN_DIGITS))) {
    if (comparison.isHopeless) break;
    await comparison.compareRun(run, ofRun);
    done += ofRun.length;
    options.onProgress?.({ packs: done, ofPacks: packs.length, bytesRead: 0 });
  }
  const { damages, compared, unrecorded } = comparison;
  return { damages, compared, unrecorded, unkept: comparison.unkept + packs.length - done };
}

class Comparison {
  readonly damages: PackDamage[] = [];
  compared = 0;
  unrecorded = 0;
  unkept = 0;
  readonly #repository: Repository;
  readonly #signal: AbortSignal;

  constructor(repository: Repository, signal: AbortSignal) {
    this.#repository = repository;
    this.#signal = signal;
  }

  /** Whether the store has been asked often enough to know that it keeps nothing. */
  get isHopeless(): boolean {
    return this.compared === 0 && this.unkept >= PARALLEL;
  }

  async compareRun(run: string, packs: readonly string[]): Promise<void> {
    const sums = await readSums(this.#repository, run, this.#signal);
    await mapConcurrently(packs, PARALLEL, async (pack) => {
      this.#signal.throwIfAborted();
      const reason = await this.#compare(pack, sums);
      if (reason !== null) this.damages.push({ pack, key: packAt(this.#repository.domain, pack), offsets: null, reason });
    });
  }

  /** What is wrong with a pack. */
  async #compare(pack: string, sums: PackSums): Promise<string | null> {
    const sent = sums.of(pack);
    if (sent === null || this.isHopeless) {
      this[sent === null ? "unrecorded" : "unkept"] += 1;
      return null;
    }
    const kept = await this.#ask(pack);
    if (kept === null) return "it is missing";
    if (kept.size !== sent.size) return `it has ${kept.size} bytes, and ${sent.size} were stored`;
    if (kept.crc32 === undefined) {
      this.unkept += 1;
      return null;
    }
    this.compared += 1;
    if (kept.crc32 === sent.crc32) return null;
    return `the store says that its CRC-32 is ${hex(kept.crc32)}, and that of what was stored is ${hex(sent.crc32)}: it is not what was stored`;
  }

  async #ask(pack: string): Promise<ObjectStat | null> {
    try {
      return await this.#repository.store.stat(packAt(this.#repository.domain, pack), { signal: this.#signal, checksum: true });
    } catch (thrown) {
      if (thrown instanceof StoreError && thrown.code === "not-found") return null;
      throw thrown;
    }
  }
}

function hex(crc32: number): string {
  return crc32.toString(16).padStart(8, "0");
}
