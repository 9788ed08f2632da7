import { StoreError } from "../../objectstore/index.ts";
import type { ObjectStore } from "../../objectstore/index.ts";
import { type ConfigClaim, proveConfig, requireKeyGiven } from "../format/config.ts";
import type { RepositoryConfig } from "../format/config.ts";
import { damaged, FormatError } from "../format/errors.ts";
import { keyIdOf, NO_KEY } from "../format/keys.ts";
import { openRotation, type Rotation } from "../format/rotation.ts";
import { tampered } from "../format/sealed-json.ts";
import { type Credential, DomainCredential } from "./credential.ts";
import { readRotation, readRotations, type RotationHistory } from "./rotation-store.ts";
import { unlock } from "./unlock.ts";

export interface KeyPlaces {
  readonly store: ObjectStore;
  readonly signal?: AbortSignal;
}

/** The repository key of now, as long as it is needed: `wipe` overwrites it. */
export class RepositoryKey {
  readonly config: RepositoryConfig;
  /** 32 bytes */
  readonly current: Buffer;
  /** The repository's first key: proves the config and names the domains (FORMAT.md §4.2). */
  readonly first: Buffer;
  readonly history: RotationHistory;
  /** slot it came from; null: the key itself was given */
  readonly slot: string | null;
  readonly #places: KeyPlaces;
  readonly #claim: ConfigClaim;

  private constructor(claim: ConfigClaim, places: KeyPlaces, found: Found) {
    this.#claim = claim;
    this.#places = places;
    this.config = found.config;
    this.current = found.current;
    this.first = found.first;
    this.history = found.history;
    this.slot = found.slot;
  }

  /** Finds it for a credential. Rejects with a `FormatError`; `wrong-key` also for a key that was replaced. */
  static async find(claim: ConfigClaim, credential: Credential, places: KeyPlaces): Promise<RepositoryKey> {
    requireKeyGiven(claim, credential !== null);
    if (credential instanceof DomainCredential) {
      throw new FormatError(
        "wrong-key",
        "This is the key of one domain: it lists, restores and checks that domain's points, and does nothing else",
        {
          hint: "Give the repository's own key file, or a passphrase",
        },
      );
    }
    if (credential === null) {
      const none = { newest: null, earlier: [] };
      const config = proveConfig(claim, NO_KEY);
      return new RepositoryKey(claim, places, { config, current: Buffer.alloc(32), first: Buffer.alloc(32), history: none, slot: null });
    }
    const history = await readRotations(claim, places);
    if (credential instanceof Uint8Array) requireNotReplaced(credential, claim, history);
    const keyId = history.newest?.keyId ?? claim.keyId ?? "";
    const { key: current, slot } = await unlock(credential, { ...places, repositoryId: claim.id, keyId });
    const { first, configMac } = secretsOf(history.newest, current, claim);
    if (!configMac.equals(claim.mac)) throw tampered("config");
    return new RepositoryKey(claim, places, { config: proveConfig(claim, first), current, first, history, slot });
  }

  get keyId(): string {
    return keyIdOf(this.current, this.config.id);
  }

  /** What a rotation from this key must hold. */
  get configMac(): Buffer {
    return this.#claim.mac;
  }

  /** The keys before this one, newest first, for what a rotation has not come to yet. Each is overwritten when the next is asked for. */
  async *earlier(): AsyncGenerator<Buffer, void, undefined> {
    let key: Buffer = Buffer.from(this.current);
    try {
      for (let number = this.history.newest?.number ?? 0; number > 0; number--) {
        const rotation = await readRotation(number, this.config.id, this.#places);
        if (rotation === null) throw damaged(`The rotation ${number} of the repository's key is missing`);
        const { previous, first } = openRotation(rotation, key, this.config.id);
        first.fill(0);
        key.fill(0);
        key = previous;
        yield key;
      }
    } finally {
      key.fill(0);
    }
  }

  /** Rejects `wrong-key` when the key was replaced since it was found: nothing new may be sealed under it then. */
  async requireCurrent(): Promise<void> {
    if (!this.config.encrypted) return;
    const next = await this.#next();
    if (next === null) return;
    throw new FormatError(
      "wrong-key",
      `The repository's key was replaced (${next}) meanwhile: what was begun with the old one does not count`,
      {
        hint: "Do it again with the new key",
      },
    );
  }

  async #next(): Promise<string | null> {
    const number = (this.history.newest?.number ?? 0) + 1;
    try {
      const found = await readRotation(number, this.config.id, this.#places);
      return found === null ? null : found.time;
    } catch (thrown) {
      // That it is there is enough.
      if (thrown instanceof FormatError) return `rotation ${number}`;
      throw thrown;
    }
  }

  wipe(): void {
    this.current.fill(0);
    this.first.fill(0);
  }
}

interface Found {
  readonly config: RepositoryConfig;
  readonly current: Buffer;
  readonly first: Buffer;
  readonly history: RotationHistory;
  readonly slot: string | null;
}

function secretsOf(newest: Rotation | null, key: Buffer, claim: ConfigClaim): { readonly first: Buffer; readonly configMac: Buffer } {
  return newest === null ? { first: Buffer.from(key), configMac: claim.mac } : openRotation(newest, key, claim.id);
}

/** A key that was the repository's says so, rather than being any wrong one. */
function requireNotReplaced(credential: Uint8Array, claim: ConfigClaim, { newest, earlier }: RotationHistory): void {
  if (newest === null) return;
  const id = keyIdOf(credential, claim.id);
  if (id === newest.keyId || ![claim.keyId, ...earlier].includes(id)) return;
  throw new FormatError("wrong-key", `This key was the repository's until it was replaced; since ${newest.time} another one opens it`, {
    hint: "Give the key file that `thinstream key rotate` made",
  });
}

/** Whether a store refused because somebody else was first. */
export function isTaken(thrown: unknown): boolean {
  return thrown instanceof StoreError && thrown.code === "already-exists";
}
