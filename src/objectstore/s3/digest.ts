import { createHash } from "node:crypto";

import { inSteps } from "../../lib/crc32.ts";

/** A CRC-32 as S3 writes it in a header: base64 of its four bytes, most significant first. */
export function crc32Header(value: number): string {
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
  for await (const part of inSteps(bytes)) hash.update(part);
  return hash.digest("hex");
}
