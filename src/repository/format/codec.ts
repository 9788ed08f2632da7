import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { Codec } from "./constants.ts";
import { damaged } from "./errors.ts";
import { bound, lz4 } from "./lz4.ts";

const zstdOptions = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** bytes looked at before a whole granule is compressed: what is already compressed shows it here, for a sixteenth of the price */
const PROBE = 4096;

/** What a text looks like after compression, and the codec that undoes it. */
export interface Packed {
  readonly codec: Codec;
  readonly bytes: Uint8Array;
}

/** bytes in front of an LZ4 block that say how long its text is */
const LZ4_PREFIX = 4;

/**
 * Compresses texts one after the other. What is already compressed comes in long stretches, and lz4 takes as long on it as on anything else: after a text that did not
 * shrink the next one is looked at before it is compressed whole.
 */
export class Packer {
  #lastShrank = true;
  /** Fresh memory for every text would cost more than compressing it. */
  #room = Buffer.alloc(0);

  /** A text that does not shrink by 1/32 stays as it is. What is returned is good until the next call. */
  pack(text: Uint8Array, wanted: Codec): Packed {
    if (wanted === Codec.none || (!this.#lastShrank && !this.#seemsCompressible(text, wanted))) return { codec: Codec.none, bytes: text };
    const bytes = wanted === Codec.lz4 ? this.#lz4(text) : zstdCompressSync(text, zstdOptions);
    this.#lastShrank = bytes.length <= text.length - text.length / 32;
    return this.#lastShrank ? { codec: wanted, bytes } : { codec: Codec.none, bytes: text };
  }

  #lz4(text: Uint8Array): Buffer {
    const needed = LZ4_PREFIX + bound(text.length);
    if (this.#room.length < needed) this.#room = Buffer.allocUnsafeSlow(needed);
    this.#room.writeUInt32LE(text.length, 0);
    return this.#room.subarray(0, LZ4_PREFIX + lz4.compress(text, this.#room.subarray(LZ4_PREFIX)));
  }

  #seemsCompressible(text: Uint8Array, wanted: Codec): boolean {
    if (wanted !== Codec.lz4 || text.length < 4 * PROBE) return true;
    const middle = text.length >>> 1;
    return this.#probe(text.subarray(middle, middle + PROBE)) || this.#probe(text.subarray(0, PROBE));
  }

  #probe(sample: Uint8Array): boolean {
    return this.#lz4(sample).length < PROBE - PROBE / 64;
  }
}

/** Undoes `Packer.pack`. @param textLength bytes the text must have @param into memory of that length that may be used for it */
export function unpack(packed: Uint8Array, codec: number, textLength: number, into?: Uint8Array): Uint8Array {
  const text = codec === Codec.none ? packed : decompress(packed, codec, into ?? Buffer.allocUnsafe(textLength));
  if (text.length !== textLength) throw damaged(`A frame holds ${text.length} bytes, not ${textLength}`);
  return text;
}

/** Bytes of the text that `packed` says it holds, of at most `most`; nothing is proved by it. Rejects `damaged`. */
export function textLengthOf(packed: Uint8Array, codec: number, most: number): number {
  const length = codec === Codec.none ? packed.length : codec === Codec.lz4 ? lz4Length(packed) : zstdLength(packed, most);
  if (length < 0 || length > most) throw damaged("A frame says that it holds more than there can be");
  return length;
}

function zstdLength(packed: Uint8Array, most: number): number {
  try {
    return zstdDecompressSync(packed, { maxOutputLength: most }).length;
  } catch (cause) {
    throw damaged("A frame does not decompress", cause);
  }
}

function decompress(packed: Uint8Array, codec: number, into: Uint8Array): Uint8Array {
  try {
    if (codec === Codec.zstd) return zstdDecompressSync(packed, { maxOutputLength: Math.max(1, into.length) });
    if (codec === Codec.lz4 && lz4Length(packed) === into.length) {
      lz4.decompress(packed.subarray(LZ4_PREFIX), into);
      return into;
    }
  } catch (cause) {
    throw damaged("A frame does not decompress", cause);
  }
  throw damaged(`A frame has a codec (${codec}) or length that is not this format's`);
}

function lz4Length(packed: Uint8Array): number {
  return packed.length <= LZ4_PREFIX ? -1 : new DataView(packed.buffer, packed.byteOffset, LZ4_PREFIX).getUint32(0, true);
}
