import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { crc32 } from "node:zlib";

/** Bytes digested between two turns of the event loop; a few milliseconds. */
const step = 4 * 1024 * 1024;

/** CRC-32 of the bytes as S3 writes it in a header: base64 of its four bytes, most significant first. */
export async function crc32Header(bytes: Uint8Array): Promise<string> {
  let value = 0;
  for await (const part of parts(bytes)) value = crc32(part, value);
  const digest = Buffer.alloc(4);
  digest.writeUInt32BE(value);
  return digest.toString("base64");
}

/** Undoes `crc32Header`; null for anything else, such as the checksum of an object in parts. */
export function parseCrc32(header: string | undefined): number | null {
  return header !== undefined && /^[A-Za-z0-9+/]{6}==$/.test(header) ? Buffer.from(header, "base64").readUInt32BE() : null;
}

/** SHA-256 of the bytes, hexadecimal, as `x-amz-content-sha256` wants it. */
export async function sha256Header(bytes: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of parts(bytes)) hash.update(part);
  return hash.digest("hex");
}

async function* parts(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += step) {
    if (at > 0) await setImmediate();
    yield bytes.subarray(at, at + step);
  }
}
