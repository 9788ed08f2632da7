import { createCipheriv, createDecipheriv, createHash, randomBytes, timingSafeEqual } from "node:crypto";

import { TAG_LENGTH } from "./constants.ts";
import { damaged, FormatError } from "./errors.ts";
import { asHex, canonicalJson, type JsonObject, parseObject, shown } from "./json.ts";

const NONCE = 12;

/** What one of the small JSON objects around a key must say of itself (FORMAT.md §4.1 and §4.2). */
export interface SealedJsonPlace {
  /** the object it lies at, for messages */
  readonly at: string;
  readonly format: string;
  /** 16 bytes */
  readonly repositoryId: Uint8Array;
}

/** Seals a secret under a key and the clear fields beside it, so that none of them can be changed alone. @returns hex */
export function sealSecret(secret: Uint8Array, key: Uint8Array, clear: JsonObject): string {
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(Buffer.from(canonicalJson(clear)));
  return Buffer.concat([nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag()]).toString("hex");
}

/** Undoes `sealSecret`; null where key, secret or clear fields are not those it was sealed with. */
export function openSecret(sealed: Buffer, key: Uint8Array, clear: JsonObject): Buffer | null {
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, NONCE))
    .setAAD(Buffer.from(canonicalJson(clear)))
    .setAuthTag(sealed.subarray(-TAG_LENGTH));
  const secret = decipher.update(sealed.subarray(NONCE, -TAG_LENGTH));
  try {
    decipher.final();
    return secret;
  } catch {
    secret.fill(0);
    return null;
  }
}

/** Length of `sealed` for a secret of so many bytes. */
export function sealedLength(secret: number): number {
  return NONCE + secret + TAG_LENGTH;
}

/** The object's bytes, with the sum that tells damage without any key. */
export function encodeSummed(body: JsonObject): Buffer {
  return Buffer.from(`${JSON.stringify({ ...body, sum: sumOf(body).toString("hex") }, null, 1)}\n`);
}

/** The object without its sum. Rejects `damaged`, and `newer-format` for a version that only a later program knows. */
export function decodeSummed(bytes: Uint8Array, { at, format, repositoryId }: SealedJsonPlace): JsonObject {
  const { sum, ...body } = parseObject(bytes, at);
  if (body["format"] !== format) throw damaged(`${at} is not what should lie there`);
  if (!timingSafeEqual(asHex(sum, `The sum of ${at}`, 32), sumOf(body))) throw damaged(`${at} is damaged: its sum is wrong`);
  if (body["version"] !== 1) {
    throw new FormatError("newer-format", `${at} has version ${shown(body["version"])}; this program knows version 1`, {
      hint: "Use the version of Thinstream that wrote it, or a later one",
    });
  }
  if (body["repository"] !== Buffer.from(repositoryId).toString("hex")) throw damaged(`${at} is of another repository`);
  return body;
}

/** What was whole when it was written, and was then changed by who knows how to make the sum anew. */
export function tampered(at: string): FormatError {
  return new FormatError("tampered", `${at} was changed by somebody after it was written`, {
    hint: "Who can write to the bucket did it. Open the repository another way, and bring the object back from a copy or an older version",
  });
}

function sumOf(body: JsonObject): Buffer {
  return createHash("sha256").update(canonicalJson(body)).digest();
}
