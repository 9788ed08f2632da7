import { createCipheriv, createDecipheriv, createHmac, type KeyObject, randomBytes, timingSafeEqual } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { Codec, type DocumentKind, TAG_LENGTH } from "./constants.ts";
import { damaged } from "./errors.ts";

const MAGIC = Buffer.from("TSD1");
const HEADER = 24;
const MAX_TEXT = 64 * 1024 * 1024;
/** The least that zlib takes for the size of a buffer. */
const SMALLEST_CHUNK = 64;

/** Under which key and name a document is sealed. */
export interface DocumentSeal {
  readonly kind: DocumentKind;
  /** 32 bytes; §4 says which */
  readonly key: KeyObject | Uint8Array;
  /** key of the object it lies at, below the repository's prefix */
  readonly at: string;
  readonly encrypted: boolean;
}

/** Seals a document, FORMAT.md §5. */
export function sealDocument(text: Uint8Array, seal: DocumentSeal): Buffer {
  const nonce = randomBytes(12);
  const header = Buffer.alloc(HEADER);
  MAGIC.copy(header);
  header.set([seal.kind, seal.encrypted ? 1 : 0, Codec.zstd, 0], 4);
  nonce.copy(header, 8);
  header.writeUInt32LE(text.length, 20);
  const packed = zstdCompressSync(text);
  const additional = Buffer.concat([header, Buffer.from(seal.at)]);
  if (!seal.encrypted) return Buffer.concat([header, packed, plainTag(seal.key, additional, packed)]);
  const cipher = createCipheriv("aes-256-gcm", seal.key, nonce).setAAD(additional);
  return Buffer.concat([header, cipher.update(packed), cipher.final(), cipher.getAuthTag()]);
}

/** Opens a document; rejects one that lies under another name, is of another kind or was changed. */
export function openDocument(bytes: Uint8Array, seal: DocumentSeal): Buffer {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const textLength = checkHeader(buffer, seal);
  const additional = Buffer.concat([buffer.subarray(0, HEADER), Buffer.from(seal.at)]);
  const body = buffer.subarray(HEADER, -TAG_LENGTH);
  const packed = seal.encrypted ? decrypt(buffer, additional, seal) : body;
  if (!seal.encrypted && !timingSafeEqual(plainTag(seal.key, additional, body), buffer.subarray(-TAG_LENGTH)))
    throw damaged(`${seal.at} is damaged`);
  return unpack(packed, buffer[6] ?? 0, textLength, seal.at);
}

function checkHeader(buffer: Buffer, seal: DocumentSeal): number {
  if (buffer.length < HEADER + TAG_LENGTH || !buffer.subarray(0, 4).equals(MAGIC)) throw damaged(`${seal.at} is not a sealed document`);
  if (buffer[4] !== seal.kind || buffer[5] !== (seal.encrypted ? 1 : 0))
    throw damaged(`${seal.at} is not the kind of document it should be`);
  const textLength = buffer.readUInt32LE(20);
  if (textLength > MAX_TEXT) throw damaged(`${seal.at} claims ${textLength} bytes`);
  return textLength;
}

function decrypt(buffer: Buffer, additional: Buffer, seal: DocumentSeal): Buffer {
  const decipher = createDecipheriv("aes-256-gcm", seal.key, buffer.subarray(8, 20))
    .setAAD(additional)
    .setAuthTag(buffer.subarray(-TAG_LENGTH));
  try {
    return Buffer.concat([decipher.update(buffer.subarray(HEADER, -TAG_LENGTH)), decipher.final()]);
  } catch (cause) {
    throw damaged(`${seal.at} is damaged or was sealed under another key or name`, cause);
  }
}

function unpack(packed: Buffer, codec: number, textLength: number, at: string): Buffer {
  let text: Buffer;
  if (codec === Codec.none) text = packed;
  else if (codec === Codec.zstd) text = inflate(packed, textLength, at);
  else throw damaged(`${at} uses codec ${codec}, which is none of this format's`);
  if (text.length !== textLength) throw damaged(`${at} holds ${text.length} bytes, not ${textLength}`);
  return text;
}

function inflate(packed: Buffer, textLength: number, at: string): Buffer {
  try {
    const length = Math.max(textLength, SMALLEST_CHUNK);
    return zstdDecompressSync(packed, { maxOutputLength: length, chunkSize: length });
  } catch (cause) {
    throw damaged(`${at} does not decompress`, cause);
  }
}

function plainTag(key: DocumentSeal["key"], additional: Uint8Array, body: Uint8Array): Buffer {
  return createHmac("sha256", key).update(additional).update(body).digest().subarray(0, TAG_LENGTH);
}
