import { HASH_LENGTH, PACK_ID_LENGTH } from "../format/constants.ts";
import type { Reference } from "../format/reference.ts";

/** Places a hash may be kept in. */
const WAYS = 8;
/** Numbers kept of each: offset, length, codec. */
const NUMBERS = 3;

/**
 * Granules this run has stored lately, so that what repeats on a disk, or on two disks of a VM, is stored once. Bounded; forgets older ones.
 * All in flat memory, 60 bytes each: as objects they would be most of what the garbage collector has to look after.
 */
export class RecentGranules {
  readonly #sets: number;
  readonly #hashes: Buffer;
  readonly #packs: Buffer;
  readonly #numbers: Uint32Array;
  /** of each set: how many were put into it */
  readonly #added: Uint32Array;

  /** @param capacity granules, a multiple of 8 */
  constructor(capacity: number = 32_768) {
    this.#sets = capacity / WAYS;
    this.#hashes = Buffer.alloc(capacity * HASH_LENGTH);
    this.#packs = Buffer.alloc(capacity * PACK_ID_LENGTH);
    this.#numbers = new Uint32Array(capacity * NUMBERS);
    this.#added = new Uint32Array(this.#sets);
  }

  find(hash: Buffer): Reference | undefined {
    const set = this.#setOf(hash);
    const filled = Math.min(WAYS, this.#added[set] ?? 0);
    for (let entry = set * WAYS; entry < set * WAYS + filled; entry++) {
      const at = entry * HASH_LENGTH;
      if (hash.compare(this.#hashes, at, at + HASH_LENGTH) !== 0) continue;
      const pack = this.#packs.toString("hex", entry * PACK_ID_LENGTH, (entry + 1) * PACK_ID_LENGTH);
      const [offset = 0, length = 0, codec = 0] = this.#numbers.subarray(entry * NUMBERS, (entry + 1) * NUMBERS);
      return { pack, offset, length, codec, hash };
    }
    return undefined;
  }

  /** Keeps it in place of the oldest of its set. */
  add({ pack, offset, length, codec, hash }: Reference): void {
    const set = this.#setOf(hash);
    const added = this.#added[set] ?? 0;
    const entry = set * WAYS + (added % WAYS);
    this.#added[set] = added < WAYS ? added + 1 : WAYS + ((added + 1) % WAYS);
    hash.copy(this.#hashes, entry * HASH_LENGTH);
    this.#packs.write(pack, entry * PACK_ID_LENGTH, "hex");
    this.#numbers.set([offset, length, codec], entry * NUMBERS);
  }

  // Hashes are as good as random numbers.
  #setOf(hash: Buffer): number {
    return hash.readUInt32LE(0) % this.#sets;
  }
}
