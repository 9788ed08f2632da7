import { FormatError } from "../format/errors.ts";
import type { DomainKeyFile } from "../format/key-file.ts";

const MAX_PASSPHRASE = 1024;
const SHORTEST_NEW = 8;

/** The port to a key service: what keeps a key that never leaves it. Rejects with a `FormatError`, `wrong-key` where the service refuses. */
export interface KeyWrap {
  /** Names the service, e.g. `local`; part of a slot, in the clear. */
  readonly provider: string;
  /** Wraps 32 bytes, at most to 4 KiB. What was wrapped in one context is not unwrapped in another. */
  wrap(key: Uint8Array, context: string, signal?: AbortSignal): Promise<Uint8Array>;
  unwrap(wrapped: Uint8Array, context: string, signal?: AbortSignal): Promise<Uint8Array>;
}

/** A passphrase as bytes, which can be overwritten when they are no longer needed. */
export class Passphrase {
  readonly bytes: Buffer;

  /** @param bytes taken over, not copied */
  constructor(bytes: Buffer) {
    if (bytes.length === 0 || bytes.length > MAX_PASSPHRASE)
      throw new FormatError("invalid", `A passphrase has 1 to ${MAX_PASSPHRASE} bytes, this one has ${bytes.length}`);
    this.bytes = bytes;
  }

  /** A new one is to be worth its scrypt. */
  requireNew(): void {
    if (this.bytes.length >= SHORTEST_NEW) return;
    throw new FormatError("invalid", `The new passphrase is shorter than ${SHORTEST_NEW} bytes`, {
      hint: "Take a long one: who can read the bucket can try passphrases without asking anybody",
    });
  }
}

/** The key of one domain, for whom its points alone are to be read (FORMAT.md §4.3). */
export class DomainCredential {
  readonly key: DomainKeyFile;

  constructor(key: DomainKeyFile) {
    this.key = key;
  }
}

/** What a slot can be made for. */
export type SlotCredential = Uint8Array | Passphrase | KeyWrap;

/**
 * What opens a repository: the 32 bytes of a key file (the repository key's or a slot's), a passphrase, a key service; of one domain alone its own key;
 * null for one without encryption.
 */
export type Credential = SlotCredential | DomainCredential | null;
