import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

import { FormatError } from "../format/errors.ts";
import type { KeyWrap } from "./credential.ts";

const NONCE = 12;
const TAG = 16;

/** A key service in this process, for tests and for a master key that is mounted as a file: AES-256-GCM bound to the context. */
export class LocalKeyWrap implements KeyWrap {
  readonly provider = "local";
  readonly #master: Uint8Array;

  /** @param master 32 bytes; not copied, so that their owner can overwrite them */
  constructor(master: Uint8Array) {
    this.#master = master;
  }

  wrap(key: Uint8Array, context: string): Promise<Uint8Array> {
    const nonce = randomBytes(NONCE);
    const cipher = createCipheriv("aes-256-gcm", this.#master, nonce).setAAD(Buffer.from(context));
    return Promise.resolve(Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]));
  }

  async unwrap(wrapped: Uint8Array, context: string): Promise<Uint8Array> {
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#master, wrapped.subarray(0, NONCE))
        .setAAD(Buffer.from(context))
        .setAuthTag(wrapped.subarray(-TAG));
      return await Promise.resolve(Buffer.concat([decipher.update(wrapped.subarray(NONCE, -TAG)), decipher.final()]));
    } catch (cause) {
      throw new FormatError("wrong-key", "The master key is not the one that this was wrapped with", { cause });
    }
  }
}
