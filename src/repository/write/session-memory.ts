import { SlotPool } from "../crunch/slot-pool.ts";
import { ThreadPool } from "../crunch/thread-pool.ts";
import type { DomainKeys } from "../format/keys.ts";
import { BufferPool } from "./buffer-pool.ts";

const DATA_PACK = 30 * 1024 * 1024;
const NODE_PACK = 8 * 1024 * 1024;
const PARALLEL_PACKS = 3;
const SLOTS = 10;

/**
 * What a session fills packs in, and its threads with what they work on. Sessions of one domain, one after the other, may share it: what the last one had
 * would still lie there when the next one takes as much. After a session that failed it is used up.
 */
export class SessionMemory {
  readonly slots: SlotPool = new SlotPool(SLOTS);
  readonly data: BufferPool;
  readonly map: BufferPool = new BufferPool(NODE_PACK, 2);
  /** packs in memory at a time: one is filled, the others are on their way */
  readonly packs: number;
  readonly threads: ThreadPool;

  /** @param size default: as for a backup, which has the machine for itself */
  constructor(keys: DomainKeys, { packs = PARALLEL_PACKS, threads }: { readonly packs?: number; readonly threads?: number } = {}) {
    this.packs = packs;
    this.data = new BufferPool(DATA_PACK, packs);
    this.threads = new ThreadPool({ keys, slots: this.slots.slots.map((slot) => slot.memory), windows: [] }, threads);
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    await this.threads.close();
  }
}
