import { NbdError } from "./errors.ts";

/** A run of the device in one state; see `repository/disk-content.ts` for the words. */
export interface NbdExtent {
  /** bytes */
  readonly offset: number;
  /** bytes, > 0 */
  readonly length: number;
  readonly state: "clean" | "data" | "zero";
}

/** One context's part of a block status reply: length and flags in turn, as numbers. */
export type StatusEntries = Float64Array;

/** What a server said about the bytes from `offset` on; contexts may cover different lengths. */
export interface StatusReply {
  /** bytes */
  readonly offset: number;
  /** bytes, of the device */
  readonly size: number;
  readonly allocation: StatusEntries;
  /** The dirty bitmap's part, or null where none was asked for. */
  readonly dirty: StatusEntries | null;
  /** bytes; from here on nothing is clean, whatever the bitmap says. Default: the size. */
  readonly cleanEnd?: number;
}

const ZERO_FLAG = 2; // NBD_STATE_ZERO of base:allocation; a hole without it has undefined content and must be read
const DIRTY_FLAG = 1;

/** Joins neighbours of equal state; what it returns from `push` is final. */
export class ExtentMerger {
  #offset = 0;
  #length = 0;
  #state: NbdExtent["state"] = "data";

  /** Takes the next run and returns the run that thereby ended, if one did. Throws `bad-reply` at a gap or overlap. */
  push(offset: number, length: number, state: NbdExtent["state"]): NbdExtent | undefined {
    if (this.#length > 0 && offset !== this.#offset + this.#length) {
      throw new NbdError("bad-reply", `block status jumped from byte ${this.#offset + this.#length} to ${offset}`);
    }
    if (this.#length > 0 && state === this.#state) {
      this.#length += length;
      return undefined;
    }
    const ended = this.flush();
    this.#offset = offset;
    this.#length = length;
    this.#state = state;
    return ended;
  }

  /** The run that is still open, if any. */
  flush(): NbdExtent | undefined {
    if (this.#length === 0) return undefined;
    const open = { offset: this.#offset, length: this.#length, state: this.#state };
    this.#length = 0;
    return open;
  }
}

/**
 * The states of the bytes that every context of a reply covers, in order. The contexts of one reply may end at different places
 * (QEMU stops a context after 131072 extents); what only one of them covers is left to the next request.
 *
 * Throws `bad-reply` when a context covers nothing or holds an empty entry.
 */
export function* commonExtents(reply: StatusReply): Generator<NbdExtent, void, undefined> {
  const allocation = new Cursor(reply.allocation, "base:allocation", reply.offset);
  const dirty = reply.dirty === null ? null : new Cursor(reply.dirty, "dirty bitmap", reply.offset);
  const cleanEnd = Math.min(reply.cleanEnd ?? reply.size, reply.size);
  let offset = reply.offset;
  const more = (): boolean => offset < reply.size && allocation.more && (dirty === null || dirty.more);
  while (more()) {
    const grown = offset >= cleanEnd;
    const length = Math.min(allocation.left, dirty === null ? Infinity : dirty.left, (grown ? reply.size : cleanEnd) - offset);
    yield { offset, length, state: stateOf(allocation.flags, dirty === null || grown ? DIRTY_FLAG : dirty.flags) };
    offset += length;
    allocation.skip(length);
    dirty?.skip(length);
  }
  if (offset === reply.offset) throw new NbdError("bad-reply", `block status made no progress at byte ${offset}`);
}

function stateOf(allocation: number, dirty: number): NbdExtent["state"] {
  if ((dirty & DIRTY_FLAG) === 0) return "clean";
  return (allocation & ZERO_FLAG) === 0 ? "data" : "zero";
}

class Cursor {
  readonly #entries: StatusEntries;
  readonly #context: string;
  readonly #start: number;
  #at = 0;
  left = 0;
  flags = 0;

  constructor(entries: StatusEntries, context: string, start: number) {
    this.#entries = entries;
    this.#context = context;
    this.#start = start;
    this.#load();
  }

  get more(): boolean {
    return this.#at < this.#entries.length;
  }

  skip(length: number): void {
    this.left -= length;
    if (this.left > 0) return;
    this.#at += 2;
    this.#load();
  }

  #load(): void {
    if (!this.more) return;
    const length = this.#entries[this.#at] ?? 0;
    if (!(length > 0) || !Number.isSafeInteger(length) || this.#at + 1 >= this.#entries.length) {
      throw new NbdError("bad-reply", `${this.#context} reported an impossible extent in its reply for byte ${this.#start}`);
    }
    this.left = length;
    this.flags = this.#entries[this.#at + 1] ?? 0;
  }
}
