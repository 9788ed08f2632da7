import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";

/** Bytes digested between two turns of the event loop; a millisecond or few. */
const STEP = 4 * 1024 * 1024;

/** CRC-32 of the bytes, as zlib and S3 have it; the event loop turns meanwhile. */
export async function crc32Of(bytes: Uint8Array): Promise<number> {
  let value = 0;
  for await (const part of inSteps(bytes)) value = crc32(part, value);
  return value;
}

/** The bytes in parts between which the event loop turns. */
export async function* inSteps(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += STEP) {
    if (at > 0) await setImmediate();
    yield bytes.subarray(at, at + STEP);
  }
}
