import { createHash } from "node:crypto";

/** What a label's value, and most names, may have. */
const MAX_LENGTH = 63;

/** The first hexadecimal digits of the SHA-256 of a text. */
export function shortHash(text: string, digits: number): string {
  return createHash("sha256").update(text).digest("hex").slice(0, digits);
}

/** A text as it is where it fits into a name, else its beginning and a hash of all of it. */
export function fitName(text: string, length: number = MAX_LENGTH): string {
  if (text.length <= length) return text;
  return `${text.slice(0, length - 9).replace(/[^a-z0-9]+$/i, "")}-${shortHash(text, 8)}`;
}
