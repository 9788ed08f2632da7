import { FrameKind, type Codec } from "../format/constants.ts";
import type { FrameSealer } from "../format/frame.ts";
import { encodePackTail, PACK_HEADER, packHeader, packId, PackTable, packTailLength } from "../format/pack.ts";
import type { Reference } from "../format/reference.ts";
import type { BufferPool } from "./buffer-pool.ts";

/** A frame on its way into a pack. */
export interface OutgoingFrame {
  readonly kind: FrameKind;
  readonly codec: Codec;
  /** 32 bytes, kept */
  readonly hash: Buffer;
  /** pieces that follow each other; copied */
  readonly stored: readonly Uint8Array[];
}

/** A pack that is complete in memory. `done` gives its memory back. */
export interface FinishedPack {
  readonly id: string;
  readonly bytes: Buffer;
  /** length of table and trailer at its end */
  readonly tailLength: number;
  readonly done: () => void;
}

export interface PackStreamOptions {
  readonly runId: Uint8Array;
  readonly sealer: FrameSealer;
  /** buffers whose length is the size of a pack */
  readonly buffers: BufferPool;
  readonly nextOrdinal: () => number;
  /** takes a finished pack; resolves when there is room for another */
  readonly ship: (pack: FinishedPack) => Promise<void>;
}

/** Fills packs with frames one after the other. Not for concurrent callers: wrap appends that may wait in one order. */
export class PackStream {
  readonly #options: PackStreamOptions;
  #current: { readonly id: string; readonly bytes: Buffer; length: number } | null = null;
  readonly #table = new PackTable();
  #opening: Promise<void> | null = null;

  constructor(options: PackStreamOptions) {
    this.#options = options;
  }

  /** Puts a frame into the current pack, or a new one when it does not fit. */
  async append(frame: OutgoingFrame): Promise<Reference> {
    const length = frame.stored.reduce((sum, piece) => sum + piece.length, 0);
    for (;;) {
      const reference = this.#tryAppend(frame, length);
      if (reference !== null) return reference;
      // Several disks append to one stream: the first that finds no room turns the page, the others wait for it.
      this.#opening ??= this.#turn().finally(() => (this.#opening = null));
      await this.#opening;
    }
  }

  /** Ships what is there. */
  async finish(): Promise<void> {
    await this.#opening;
    await this.#shipCurrent();
  }

  #tryAppend(frame: OutgoingFrame, length: number): Reference | null {
    const pack = this.#current;
    const { sealer } = this.#options;
    if (
      pack === null ||
      this.#opening !== null ||
      pack.length + length + packTailLength(this.#table.frames + 1, sealer.overhead) > pack.bytes.length
    )
      return null;
    const offset = pack.length;
    for (const piece of frame.stored) {
      pack.bytes.set(piece, pack.length);
      pack.length += piece.length;
    }
    this.#table.add({ kind: frame.kind, codec: frame.codec, offset, length, hash: frame.hash });
    return { pack: pack.id, offset, length, codec: frame.codec, hash: frame.hash };
  }

  async #turn(): Promise<void> {
    await this.#shipCurrent();
    const bytes = await this.#options.buffers.take();
    const id = packId(this.#options.runId, this.#options.nextOrdinal());
    bytes.set(packHeader(id));
    this.#table.clear();
    this.#current = { id, bytes, length: PACK_HEADER };
  }

  async #shipCurrent(): Promise<void> {
    const pack = this.#current;
    if (pack === null) return;
    this.#current = null;
    const { sealer, runId, buffers, ship } = this.#options;
    const tail = encodePackTail(this.#table, pack.length, { sealer, runId });
    pack.bytes.set(tail, pack.length);
    const bytes = pack.bytes.subarray(0, pack.length + tail.length);
    await ship({ id: pack.id, bytes, tailLength: tail.length, done: () => buffers.give(pack.bytes) });
  }
}
