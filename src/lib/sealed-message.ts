import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";

import { ThinstreamError } from "./errors.ts";

const KEY_LENGTH = 32;
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;

/** A message was not sealed with this key for this place, or was changed on its way. */
export class SealBrokenError extends ThinstreamError<"seal-broken"> {
  override readonly name = "SealBrokenError";

  constructor(message: string, cause?: unknown) {
    super("seal-broken", message, cause === undefined ? {} : { cause });
  }
}

/** The secret that two ends of an open network share: they know each other by it, and nobody else reads or writes what they say. */
export class SealingKey {
  readonly #key: Buffer;

  /** @param key 32 bytes */
  constructor(key: Uint8Array) {
    if (key.length !== KEY_LENGTH) throw new RangeError(`A sealing key has ${KEY_LENGTH} bytes, not ${key.length}`);
    this.#key = Buffer.from(key);
  }

  static random(): SealingKey {
    return new SealingKey(randomBytes(KEY_LENGTH));
  }

  static fromBase64(text: string): SealingKey {
    return new SealingKey(Buffer.from(text, "base64"));
  }

  toBase64(): string {
    return this.#key.toString("base64");
  }

  /** `nonce ‖ AES-256-GCM ‖ tag`; `place` says where the message belongs, and it opens nowhere else. */
  seal(text: Uint8Array, place: string): Buffer {
    const nonce = randomBytes(NONCE_LENGTH);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce, { authTagLength: TAG_LENGTH }).setAAD(Buffer.from(place));
    return Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()]);
  }

  /** Undoes `seal`; throws `SealBrokenError`. */
  open(sealed: Uint8Array, place: string): Buffer {
    if (sealed.length < NONCE_LENGTH + TAG_LENGTH) throw new SealBrokenError("The message is too short to be a sealed one");
    const cipher = createDecipheriv("aes-256-gcm", this.#key, sealed.subarray(0, NONCE_LENGTH), { authTagLength: TAG_LENGTH });
    cipher.setAAD(Buffer.from(place)).setAuthTag(sealed.subarray(-TAG_LENGTH));
    try {
      return Buffer.concat([cipher.update(sealed.subarray(NONCE_LENGTH, -TAG_LENGTH)), cipher.final()]);
    } catch (cause) {
      throw new SealBrokenError("The message was sealed with another key or for another place, or was changed on its way", cause);
    }
  }

  /** The `Authorization` header of a request; it tells nothing of the key. */
  get authorization(): string {
    return `Bearer ${createHmac("sha256", this.#key).update("request").digest("hex")}`;
  }

  /** Whether a request's `Authorization` header is this key's; takes the same time whatever is in it. */
  authorizes(header: string | undefined): boolean {
    return timingSafeEqual(digest(header ?? ""), digest(this.authorization));
  }
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
