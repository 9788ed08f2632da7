import { GRANULE, HASH_LENGTH, TAG_LENGTH } from "../format/constants.ts";

/** Granules worked on in one go. */
export const BATCH = 16;
/** Images a new granule is compared with. */
export const MAX_REFERENCES = 3;
const STORED = GRANULE + TAG_LENGTH;

/** What became of a granule in a slot. */
export const Outcome = { pending: 0, zero: 1, same: 2, data: 3, damaged: 4 } as const;

/**
 * A piece of shared memory in which one batch of granules is read, worked on by a thread and written on, without a copy between them.
 * Backup: `text` in; `references` in; `hash`, `outcome`, `codec`, `storedLength`, `stored` out. Restore: `text` out, `outcome` out.
 */
export class Slot {
  static readonly BYTES: number = BATCH * (GRANULE + STORED + HASH_LENGTH * (1 + MAX_REFERENCES) + 4 + 3);
  readonly memory: SharedArrayBuffer;
  readonly #text: Buffer;
  readonly #stored: Buffer;
  readonly #hashes: Buffer;
  readonly #references: Buffer;
  readonly #lengths: Uint32Array;
  /** outcome, codec and matching reference + 1, three bytes a granule; `references` present as bits in the third on the way in */
  readonly #flags: Uint8Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(Slot.BYTES)) {
    this.memory = memory;
    let at = 0;
    const area = (length: number): Buffer => Buffer.from(memory, (at += length) - length, length);
    this.#text = area(BATCH * GRANULE);
    this.#stored = area(BATCH * STORED);
    this.#hashes = area(BATCH * HASH_LENGTH);
    this.#references = area(BATCH * HASH_LENGTH * MAX_REFERENCES);
    this.#lengths = new Uint32Array(memory, at, BATCH);
    at += BATCH * 4;
    this.#flags = area(BATCH * 3);
  }

  /** 65,536 bytes of plain granule, or those of `count` in a row. */
  text(i: number, count = 1): Buffer {
    return this.#text.subarray(i * GRANULE, (i + count) * GRANULE);
  }

  /** Room for a granule as stored, seal included. */
  storedRoom(i: number): Buffer {
    return this.#stored.subarray(i * STORED, (i + 1) * STORED);
  }

  stored(i: number): Buffer {
    return this.#stored.subarray(i * STORED, i * STORED + (this.#lengths[i] ?? 0));
  }

  hash(i: number): Buffer {
    return this.#hashes.subarray(i * HASH_LENGTH, (i + 1) * HASH_LENGTH);
  }

  /** Forgets what an earlier batch left behind. */
  clear(): void {
    this.#flags.fill(0);
  }

  /** Gives granule `i` the hash that reference image `which` has at its place. */
  setReference(i: number, which: number, hash: Uint8Array): void {
    this.#references.set(hash, (i * MAX_REFERENCES + which) * HASH_LENGTH);
    this.#setFlag(i, 2, this.#flag(i, 2) | (1 << which));
  }

  /** Which reference image has `hash` at the place of granule `i`; -1 for none. */
  matchingReference(i: number, hash: Buffer): number {
    const given = this.#flag(i, 2);
    for (let which = 0; which < MAX_REFERENCES; which++) {
      if ((given & (1 << which)) === 0) continue;
      const at = (i * MAX_REFERENCES + which) * HASH_LENGTH;
      if (hash.equals(this.#references.subarray(at, at + HASH_LENGTH))) return which;
    }
    return -1;
  }

  setOutcome(i: number, outcome: number, detail = 0): void {
    this.#setFlag(i, 0, outcome);
    this.#setFlag(i, 1, detail);
  }

  outcome(i: number): number {
    return this.#flag(i, 0);
  }

  /** Codec of a `data` outcome, index of the matching image of a `same` one. */
  detail(i: number): number {
    return this.#flag(i, 1);
  }

  setStoredLength(i: number, length: number): void {
    this.#lengths[i] = length;
  }

  #flag(i: number, which: number): number {
    return this.#flags[i * 3 + which] ?? 0;
  }

  #setFlag(i: number, which: number, value: number): void {
    this.#flags[i * 3 + which] = value;
  }
}
