import type { DiskContent } from "../disk-content.ts";
import type { SparseRecord } from "../format/sparse.ts";
import type { SimilarImage } from "../hints.ts";
import type { Repository } from "../repository.ts";
import { readSparse } from "../sparse.ts";
import { Compaction } from "./compaction.ts";

export interface DiskStanding {
  /** images it is compared with, its base among them */
  readonly compared: readonly SimilarImage[];
  /** whether all of the disk is read anyway */
  readonly isWhole: boolean;
  /** granule at which to begin to look */
  readonly from: number;
}

/** Which packs prune found sparse, as one run of a machine heeds it: asked once, and only where there is something to compare with. */
export class KnownSparse {
  readonly #repository: Repository;
  readonly #vmId: string;
  readonly #signal: AbortSignal;
  readonly #records = new Map<string, Promise<SparseRecord>>();

  constructor(repository: Repository, vmId: string, signal: AbortSignal) {
    this.#repository = repository;
    this.#vmId = vmId;
    this.#signal = signal;
  }

  /** What is to be stored again of a disk; null for nothing. */
  async compaction(content: DiskContent, { compared, isWhole, from }: DiskStanding): Promise<Compaction | null> {
    const packs = new Set<string>();
    for (const vmId of new Set(compared.map((image) => image.vmId ?? this.#vmId))) {
      for (const [disk, ids] of await this.#recordOf(vmId)) {
        // Of others nobody knows which of their disks will be found on this one.
        if (vmId !== this.#vmId || disk === content.name) for (const id of ids) packs.add(id);
      }
    }
    if (packs.size === 0) return null;
    return new Compaction({ packs, from, changedBytes: isWhole ? 0 : await changedBytes(content, this.#signal) });
  }

  async #recordOf(vmId: string): Promise<SparseRecord> {
    const asked = this.#records.get(vmId) ?? readSparse(this.#repository, vmId, this.#signal);
    this.#records.set(vmId, asked);
    return await asked;
  }
}

async function changedBytes(content: DiskContent, signal: AbortSignal): Promise<number> {
  let changed = 0;
  for await (const { length, state } of content.extents(signal)) if (state !== "clean") changed += length;
  return changed;
}
