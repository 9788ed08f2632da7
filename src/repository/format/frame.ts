import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from "node:crypto";

import { CAPTURE_PIECE, Codec, FrameKind, HASH_LENGTH, TAG_LENGTH } from "./constants.ts";
import { Packer, textLengthOf, unpack } from "./codec.ts";
import { damaged } from "./errors.ts";
import { keyedHash } from "./hash.ts";
import { type DomainKeys, packKey } from "./keys.ts";

/** A frame before it has a place in a pack. `stored` is one or two pieces, in order (the tag stands alone so that nothing is copied). */
export interface SealedFrame {
  readonly hash: Buffer;
  readonly codec: Codec;
  readonly stored: readonly Uint8Array[];
}

/** How to open a frame. */
export interface FrameReference {
  readonly codec: number;
  /** 32 bytes */
  readonly hash: Uint8Array;
}

export interface OpenOptions extends FrameReference {
  readonly runId: Uint8Array;
  readonly textLength: number;
  /** memory of `textLength` bytes that the text may, but need not, be put into */
  readonly into?: Uint8Array;
}

/** Seals and opens the frames of one domain; keeps the pack keys of a few runs at hand. */
export class FrameSealer {
  readonly #keys: DomainKeys;
  readonly #packer = new Packer();
  readonly #packKeys = new Map<string, KeyObject>();

  constructor(keys: DomainKeys) {
    this.#keys = keys;
  }

  /** bytes that sealing adds to a text that does not shrink */
  get overhead(): number {
    return this.#keys.encrypted ? TAG_LENGTH : 0;
  }

  hash(kind: FrameKind, text: Uint8Array): Buffer {
    const { hash } = this.#keys;
    return keyedHash(kind === FrameKind.granule ? hash.granule : kind === FrameKind.capture ? hash.capture : hash.node, text);
  }

  /** @param hash of `text`, when the caller has it already */
  seal(
    kind: FrameKind,
    text: Uint8Array,
    options: { readonly runId: Uint8Array; readonly codec: Codec; readonly hash?: Buffer },
  ): SealedFrame {
    const hash = options.hash ?? this.hash(kind, text);
    const packed = this.#packer.pack(text, options.codec);
    if (!this.#keys.encrypted) return { hash, codec: packed.codec, stored: [packed.bytes] };
    const cipher = createCipheriv("aes-256-gcm", this.#packKey(options.runId), frameNonce(hash, packed.codec));
    cipher.setAAD(additional(kind, packed.codec, text.length));
    const body = cipher.update(packed.bytes);
    cipher.final();
    return { hash, codec: packed.codec, stored: [body, cipher.getAuthTag()] };
  }

  /** The text of a frame, good until its memory is used again; rejects anything that is not exactly what was hashed. */
  open(kind: FrameKind, stored: Uint8Array, frame: OpenOptions): Uint8Array {
    const packed = this.#keys.encrypted ? this.#decrypt(kind, stored, frame) : stored;
    const text = unpack(packed, frame.codec, frame.textLength, frame.into);
    if (!this.hash(kind, text).equals(frame.hash)) throw damaged("A frame's content does not have the hash it was stored under");
    return text;
  }

  /** The same of a piece of a capture for whom no reference says how long its text is: it says so itself, and the seal proves it (FORMAT.md §6). */
  openCapture(stored: Uint8Array, frame: Omit<OpenOptions, "textLength" | "into">): Uint8Array {
    const packed = this.#keys.encrypted ? this.#unproved(stored, frame) : stored;
    return this.open(FrameKind.capture, stored, { ...frame, textLength: textLengthOf(packed, frame.codec, CAPTURE_PIECE) });
  }

  /** GCM is counter mode with a tag; the first counter is the tag's. */
  #unproved(stored: Uint8Array, { runId, hash, codec }: Omit<OpenOptions, "textLength" | "into">): Uint8Array {
    const counter = Buffer.concat([frameNonce(hash, codec), Buffer.from([0, 0, 0, 2])]);
    return createDecipheriv("aes-256-ctr", this.#packKey(runId), counter).update(stored.subarray(0, -TAG_LENGTH));
  }

  #decrypt(kind: FrameKind, stored: Uint8Array, frame: OpenOptions): Uint8Array {
    if (stored.length < TAG_LENGTH || frame.hash.length !== HASH_LENGTH) throw damaged("A frame is shorter than its seal");
    const decipher = createDecipheriv("aes-256-gcm", this.#packKey(frame.runId), frameNonce(frame.hash, frame.codec));
    decipher.setAAD(additional(kind, frame.codec, frame.textLength)).setAuthTag(stored.subarray(-TAG_LENGTH));
    const packed = decipher.update(stored.subarray(0, -TAG_LENGTH));
    try {
      decipher.final();
    } catch (cause) {
      throw damaged("A frame's seal is broken", cause);
    }
    return packed;
  }

  #packKey(runId: Uint8Array): KeyObject {
    const id = Buffer.from(runId).toString("hex");
    let key = this.#packKeys.get(id);
    if (key === undefined) {
      if (this.#packKeys.size >= 4096) this.#packKeys.clear();
      // As a key object: handing bytes over for every frame cost as much as half the encryption.
      key = createSecretKey(packKey(this.#keys, runId));
      this.#packKeys.set(id, key);
    }
    return key;
  }
}

/** Derived from the content, so that sealing in parallel needs no counter: one nonce never meets two texts. */
function frameNonce(hash: Uint8Array, codec: number): Buffer {
  const nonce = Buffer.from(hash.subarray(0, 12));
  nonce[0] = (nonce[0] ?? 0) ^ codec;
  return nonce;
}

function additional(kind: FrameKind, codec: number, textLength: number): Buffer {
  const bytes = Buffer.from([kind, codec, 0, 0, 0, 0, 0, 0]);
  bytes.writeUInt32LE(textLength, 4);
  return bytes;
}
