import { StoreError } from "../../objectstore/index.ts";
import { BATCH, Outcome } from "../crunch/slot.ts";
import { SlotPool } from "../crunch/slot-pool.ts";
import { ThreadPool } from "../crunch/thread-pool.ts";
import { Codec, FrameKind, MAX_PACK_LENGTH } from "../format/constants.ts";
import { FormatError } from "../format/errors.ts";
import { FrameSealer } from "../format/frame.ts";
import { PACK_HEADER, packHeader, runOfPack, type TableEntry } from "../format/pack.ts";
import type { Reference } from "../format/reference.ts";
import { packAt } from "../layout.ts";
import { readPackTable } from "../read/pack-reader.ts";
import type { Repository } from "../repository.ts";

const SLOTS = 4;

/** What is wrong with a pack: all of it, or the frames at these offsets. */
export interface PackDamage {
  readonly pack: string;
  readonly key: string;
  /** in a sentence */
  readonly reason: string;
  /** null: the pack as a whole is missing or unreadable */
  readonly offsets: ReadonlySet<number> | null;
}

/** How far a check is that reads packs. */
export interface PackProgress {
  readonly packs: number;
  readonly ofPacks: number;
  readonly bytesRead: number;
}

/** Reads these packs whole, one after the other. @param options `needs`: of packs, where that is known, something that is needed of them */
export async function checkPacks(
  repository: Repository,
  packs: readonly string[],
  options: {
    readonly signal: AbortSignal;
    readonly onProgress?: (progress: PackProgress) => void;
    readonly needs?: ReadonlyMap<string, Reference>;
  },
): Promise<{ damages: PackDamage[]; bytesRead: number }> {
  const checker = new PackChecker(repository);
  const damages: PackDamage[] = [];
  let bytesRead = 0;
  try {
    for (const [i, pack] of packs.entries()) {
      options.signal.throwIfAborted();
      const { damage, bytes, table } = await checker.check(pack, options.signal);
      const need = options.needs?.get(pack);
      if (damage !== null) damages.push(damage);
      else if (need !== undefined && !lists(table, need)) damages.push(displaced(repository.domain, pack));
      bytesRead += bytes;
      options.onProgress?.({ packs: i + 1, ofPacks: packs.length, bytesRead });
    }
  } finally {
    await checker.close();
  }
  return { damages, bytesRead };
}

/** Reads packs whole, one at a time, and opens every frame. */
export class PackChecker {
  readonly #repository: Repository;
  readonly #sealer: FrameSealer;
  readonly #slots = new SlotPool(SLOTS);
  readonly #window = new SharedArrayBuffer(MAX_PACK_LENGTH);
  readonly #threads: ThreadPool;

  constructor(repository: Repository) {
    this.#repository = repository;
    this.#sealer = new FrameSealer(repository.keys);
    this.#threads = new ThreadPool({ keys: repository.keys, slots: this.#slots.slots.map((slot) => slot.memory), windows: [this.#window] });
  }

  /** Null when every frame of the pack reads as it was written. `bytes` is how much was read. */
  async check(
    pack: string,
    signal: AbortSignal,
  ): Promise<{ readonly damage: PackDamage | null; readonly bytes: number; readonly table: readonly TableEntry[] }> {
    const { store, domain } = this.#repository;
    const key = packAt(domain, pack);
    try {
      const { trailer, table } = await readPackTable(pack, { store, domain, sealer: this.#sealer, signal });
      const bytes = Buffer.from(this.#window, 0, trailer.tableOffset);
      await store.read(key, 0, bytes, { signal });
      const offsets = await this.#damagedFrames(pack, table, bytes);
      const reason =
        offsets.size > 0
          ? `${offsets.size} of its ${table.length} frames are damaged`
          : bytes.subarray(0, PACK_HEADER).equals(packHeader(pack))
            ? null
            : "its header is damaged, which no restore needs";
      const damage = reason === null ? null : { pack, key, offsets, reason };
      return { damage, bytes: trailer.packLength, table };
    } catch (thrown) {
      const reason = wholePackReason(thrown) ?? (await this.#withheld(key, thrown, signal));
      if (reason === null) throw thrown;
      return { damage: { pack, key, offsets: null, reason }, bytes: 0, table: [] };
    }
  }

  async close(): Promise<void> {
    await this.#threads.close();
  }

  /**
   * Why the store does not give out an object that it has: a server that finds its own copy damaged cuts the connection or says that it failed,
   * as one does that is out of order. It is the object's fault where the store answers for it otherwise.
   */
  async #withheld(key: string, thrown: unknown, signal: AbortSignal): Promise<string | null> {
    signal.throwIfAborted();
    if (!(thrown instanceof StoreError && thrown.temporary)) return null;
    const answers = await this.#repository.store.stat(key, { signal }).then(
      () => true,
      () => false,
    );
    return answers ? `the store does not give it out: ${thrown.message}` : null;
  }

  async #damagedFrames(pack: string, table: readonly TableEntry[], bytes: Buffer): Promise<Set<number>> {
    const damagedAt = new Set<number>();
    const granules = table.filter((entry) => entry.kind === FrameKind.granule);
    const batches = Array.from({ length: Math.ceil(granules.length / BATCH) }, (_, i) => granules.slice(i * BATCH, (i + 1) * BATCH));
    await Promise.all(
      batches.map(async (batch) => {
        for (const offset of await this.#openBatch(pack, batch)) damagedAt.add(offset);
      }),
    );
    for (const entry of table) {
      if (entry.kind !== FrameKind.granule && !this.#opens(pack, entry, bytes.subarray(entry.offset, entry.offset + entry.length)))
        damagedAt.add(entry.offset);
    }
    return damagedAt;
  }

  async #openBatch(pack: string, batch: readonly TableEntry[]): Promise<number[]> {
    const index = await this.#slots.take();
    const slot = this.#slots.slot(index);
    try {
      slot.clear();
      const frames = batch.map((entry) => ({
        at: entry.offset,
        length: entry.length,
        codec: entry.codec,
        hash: entry.hash,
        runId: runOfPack(pack),
      }));
      await this.#threads.run({ op: "open", slot: index, window: 0, frames });
      return batch.filter((_, i) => slot.outcome(i) !== Outcome.data).map((entry) => entry.offset);
    } finally {
      this.#slots.give(index);
    }
  }

  /** Nodes have codec 0, so their length is known; a piece of a capture tells its own. */
  #opens(pack: string, { kind, codec, hash }: TableEntry, stored: Buffer): boolean {
    const runId = runOfPack(pack);
    try {
      if (kind === FrameKind.capture) this.#sealer.openCapture(stored, { runId, codec, hash });
      else
        this.#sealer.open(kind, stored, { runId, codec: Codec.none, hash, textLength: Math.max(0, stored.length - this.#sealer.overhead) });
      return true;
    } catch (thrown) {
      if (thrown instanceof FormatError) return false;
      throw thrown;
    }
  }
}

/** Whether a pack is the one that was meant: all of one run are sealed under one key, so that another of them opens in its place. */
function lists(table: readonly TableEntry[], { offset, length, codec, hash }: Reference): boolean {
  return table.some((entry) => entry.offset === offset && entry.length === length && entry.codec === codec && hash.equals(entry.hash));
}

function displaced(domain: string, pack: string): PackDamage {
  return { pack, key: packAt(domain, pack), offsets: null, reason: "another pack of the same run lies in its place" };
}

function wholePackReason(thrown: unknown): string | null {
  if (thrown instanceof FormatError) return thrown.message;
  if (!(thrown instanceof StoreError)) return null;
  if (thrown.code === "not-found") return "it is missing";
  return thrown.code === "out-of-range" ? "it is cut short" : null;
}
