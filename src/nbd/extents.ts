import { NbdError } from "./errors.ts";

/** A run of the device in one state; see `repository/disk-content.ts` for the words. */
export interface NbdExtent {
  /** bytes */
  readonly offset: number;
  /** bytes, > 0 */
  readonly length: number;
  readonly state: "clean" | "data" | "zero";
}

export interface ByteRange {
  /** bytes */
  readonly offset: number;
  /** bytes */
  readonly length: number;
}

/** A run of bytes of which a meta context says the same. */
export interface StatusRun extends ByteRange {
  readonly flags: number;
}

/** One context's part of a block status reply: length and flags in turn, as numbers. */
export type StatusEntries = Float64Array;

/** What a server said of the bytes from `offset` on. */
export interface StatusReply {
  /** bytes */
  readonly offset: number;
  /** bytes; what the reply says beyond is not of interest */
  readonly end: number;
  readonly entries: StatusEntries;
  readonly context: string;
  /** the flags that matter; the others read as 0 */
  readonly mask: number;
}

/** NBD_STATE_ZERO of base:allocation; a hole without it has undefined content and must be read. */
export const ZERO_FLAG = 2;
/** The one flag of qemu:dirty-bitmap. */
export const DIRTY_FLAG = 1;

/**
 * Longest dirty run, in bytes, that is read without asking first whether it is zeros. Asking costs the server as much as reading a few granules, which it
 * answers by a hole where there is one: on a terabyte with changes all over, asking took four times as long as the rest of the backup.
 */
const ASK_FROM = 2 ** 20;

/** Joins neighbours of equal flags; what it returns from `push` is final. */
export class RunMerger {
  #offset = 0;
  #length = 0;
  #flags = 0;

  /** Takes the next run and returns the run that thereby ended, if one did. Throws `bad-reply` at a gap or overlap. */
  push({ offset, length, flags }: StatusRun): StatusRun | undefined {
    if (this.#length > 0 && offset !== this.#offset + this.#length) {
      throw new NbdError("bad-reply", `block status jumped from byte ${this.#offset + this.#length} to ${offset}`);
    }
    if (this.#length > 0 && flags === this.#flags) {
      this.#length += length;
      return undefined;
    }
    const ended = this.flush();
    this.#offset = offset;
    this.#length = length;
    this.#flags = flags;
    return ended;
  }

  /** The run that is still open, if any. */
  flush(): StatusRun | undefined {
    if (this.#length === 0) return undefined;
    const open = { offset: this.#offset, length: this.#length, flags: this.#flags };
    this.#length = 0;
    return open;
  }
}

/**
 * The runs of one reply, in order; a server may say less than it was asked for (QEMU stops after 131072 runs), or more.
 * Throws `bad-reply` when it covers nothing or holds an empty entry.
 */
export function* replyRuns({ offset, end, entries, context, mask }: StatusReply): Generator<StatusRun, void, undefined> {
  let at = offset;
  for (let i = 0; i < entries.length && at < end; i += 2) {
    const [said = 0, flags = 0] = entries.subarray(i, i + 2);
    if (!(said > 0) || !Number.isSafeInteger(said) || i + 1 >= entries.length) {
      throw new NbdError("bad-reply", `${context} reported an impossible extent in its reply for byte ${offset}`);
    }
    const length = Math.min(said, end - at);
    yield { offset: at, length, flags: flags & mask };
    at += length;
  }
  if (at === offset) throw new NbdError("bad-reply", `${context} made no progress at byte ${offset}`);
}

/** How to learn the states of a device. Both give gapless runs of the range with neighbours joined, flags masked as named. */
export interface StatusSource {
  /** what the states are wanted of */
  readonly range: ByteRange;
  /** `ZERO_FLAG` or 0 */
  readonly allocation: (range: ByteRange) => AsyncIterable<StatusRun>;
  /** `DIRTY_FLAG` or 0; null where nothing says what changed, so that nothing is clean */
  readonly dirty: ((range: ByteRange) => AsyncIterable<StatusRun>) | null;
  /** bytes; from here on nothing is clean, whatever the bitmap says */
  readonly cleanEnd: number;
}

/** The states of a device, in order and without gaps. Of what is dirty only long runs are known as zeros: a short one is data until it was read. */
export async function* deviceExtents(source: StatusSource): AsyncGenerator<NbdExtent, void, undefined> {
  const { range, allocation, dirty, cleanEnd } = source;
  const end = range.offset + range.length;
  const known = dirty === null ? range.offset : Math.max(range.offset, Math.min(end, cleanEnd));
  if (dirty !== null && known > range.offset) {
    for await (const run of dirty({ offset: range.offset, length: known - range.offset })) {
      const { offset, length, flags } = run;
      if (flags === 0) yield { offset, length, state: "clean" };
      else if (length < ASK_FROM) yield { offset, length, state: "data" };
      else yield* contents(allocation(run));
    }
  }
  if (known < end) yield* contents(allocation({ offset: known, length: end - known }));
}

async function* contents(runs: AsyncIterable<StatusRun>): AsyncGenerator<NbdExtent, void, undefined> {
  for await (const { offset, length, flags } of runs) yield { offset, length, state: flags === 0 ? "data" : "zero" };
}
