import { Blake3Hasher } from "@napi-rs/blake-hash";

/** Keyed BLAKE3-256. @param key 32 bytes */
export function keyedHash(key: Uint8Array, text: Uint8Array): Buffer {
  return Blake3Hasher.newKeyed(asBuffer(key)).update(text).digestBuffer();
}

/** A Buffer on the same memory, for native modules that take nothing else. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
