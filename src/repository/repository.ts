import { randomBytes } from "node:crypto";

import { type ObjectStore, requireConditionalWrites } from "../objectstore/index.ts";
import { Catalog } from "./catalog.ts";
import { RepositoryError } from "./errors.ts";
import { openDomain } from "./domain-key.ts";
import { type ConfigClaim, encodeConfig, parseConfig, type RepositoryConfig } from "./format/config.ts";
import { FORMAT_VERSION } from "./format/constants.ts";
import { FormatError } from "./format/errors.ts";
import { type DomainKeys, NO_KEY } from "./format/keys.ts";
import type { Credential } from "./keys/credential.ts";
import { isTaken, RepositoryKey } from "./keys/repository-key.ts";
import { writeSlot } from "./keys/slot-store.ts";
import { CONFIG, POINTS, slotAt } from "./layout.ts";
import { readConfig } from "./read-config.ts";
import { hasAny } from "./try-get.ts";

const DEFAULT_DOMAIN = "default";

export interface RepositoryAccess {
  readonly store: ObjectStore;
  /** What opens it; null for a repository without encryption. Not changed, and not kept. */
  readonly key: Credential;
  readonly signal?: AbortSignal;
}

/** A repository that was opened with the right key: one encryption domain of it. */
export class Repository {
  readonly store: ObjectStore;
  readonly config: RepositoryConfig;
  readonly keys: DomainKeys;
  /** 8 hex digits */
  readonly domain: string;
  readonly catalog: Catalog;

  private constructor(store: ObjectStore, config: RepositoryConfig, domain: { readonly id: string; readonly keys: DomainKeys }) {
    this.store = store;
    this.config = config;
    this.keys = domain.keys;
    this.domain = domain.id;
    this.catalog = new Catalog(store, domain.keys);
  }

  /** Makes an empty repository in the store. Rejects `already-a-repository`. For a passphrase or a key service it makes a key, and the slot for it. */
  static async init(access: RepositoryAccess): Promise<Repository> {
    const { store } = access;
    await requireNoLeftovers(access);
    const id = randomBytes(16);
    const { key, slot } = await firstKey(id, access);
    try {
      const created = (await store.now(access)).toISOString();
      const bytes = encodeConfig({ version: FORMAT_VERSION, id, created, encrypted: key !== null }, key ?? NO_KEY);
      await store.putIfAbsent(CONFIG, bytes, access).catch(async (cause: unknown) => {
        if (!isTaken(cause)) throw cause;
        if (slot !== null) await store.delete(slotAt(slot), access).catch(() => undefined);
        throw new RepositoryError("already-a-repository", `There is a repository at ${store.url} already`, {
          cause,
          hint: "Choose another prefix, or use the one that is there",
        });
      });
      return await Repository.#withDomain(parseConfig(bytes), { ...access, key });
    } finally {
      key?.fill(0);
    }
  }

  /** Opens a repository. Rejects `not-a-repository`, and with a `FormatError` for a wrong key or passphrase, damage or a newer format. */
  static async open(access: RepositoryAccess): Promise<Repository> {
    return await Repository.#withDomain(await readConfig(access.store, access), access);
  }

  /** Rejects `no-conditional-writes` of a store that would let one backup overwrite another's point (FORMAT.md §9). */
  async requireSafeWrites(signal: AbortSignal): Promise<void> {
    await requireConditionalWrites(this.store, { signal });
  }

  static async #withDomain(claim: ConfigClaim, access: RepositoryAccess): Promise<Repository> {
    const key = await RepositoryKey.find(claim, access.key, access);
    try {
      return new Repository(access.store, key.config, await openDomain(DEFAULT_DOMAIN, key, access));
    } finally {
      key.wipe();
    }
  }
}

/** The key of a new repository, to be overwritten: the one that was given, or one that only a slot has. */
async function firstKey(repositoryId: Uint8Array, access: RepositoryAccess): Promise<{ key: Buffer | null; slot: string | null }> {
  const { key: credential } = access;
  if (credential === null) return { key: null, slot: null };
  if (credential instanceof Uint8Array) return { key: Buffer.from(credential), slot: null };
  const key = randomBytes(32);
  // Before the config: a repository is never without its way in.
  const slot = await writeSlot({ ...access, repositoryId }, { credential, label: "init", key });
  return { key, slot };
}

/** Points without a config were of a repository that lost it: a new one would hide them for ever. */
async function requireNoLeftovers({ store, signal }: RepositoryAccess): Promise<void> {
  if (!(await hasAny(store, POINTS, signal)) || (await hasAny(store, CONFIG, signal))) return;
  throw new FormatError("damaged", `There are restore points at ${store.url}, but their repository's ${CONFIG} is missing`, {
    hint: "Bring the object back from a copy or an older version of the bucket, or choose another prefix",
  });
}
