import { randomBytes } from "node:crypto";

import { type ObjectStore, requireConditionalWrites } from "../objectstore/index.ts";
import { Catalog } from "./catalog.ts";
import { RepositoryError } from "./errors.ts";
import { domainDestroyed, openDomain } from "./domain-key.ts";
import type { OpenedDomain } from "./domains/domain-name.ts";
import { hasTombstone } from "./domains/tombstone.ts";
import { type ConfigClaim, encodeConfig, parseConfig, type RepositoryConfig } from "./format/config.ts";
import { FORMAT_VERSION } from "./format/constants.ts";
import { DEFAULT_DOMAIN } from "./format/domain.ts";
import { FormatError } from "./format/errors.ts";
import { type DomainKeys, NO_KEY } from "./format/keys.ts";
import { type Credential, DomainCredential } from "./keys/credential.ts";
import { isTaken, RepositoryKey } from "./keys/repository-key.ts";
import { writeSlot } from "./keys/slot-store.ts";
import { CONFIG, POINTS, slotAt } from "./layout.ts";
import { readConfig } from "./read-config.ts";
import { hasAny } from "./try-get.ts";

export interface RepositoryAccess {
  readonly store: ObjectStore;
  /** What opens it; null for a repository without encryption. Not changed, and not kept. */
  readonly key: Credential;
  /** name of the domain that is opened, and made where it is not there yet; default: the one that every repository has */
  readonly domain?: string;
  readonly signal?: AbortSignal;
}

/** One domain of a repository, as it is opened. */
export interface RepositoryPart extends OpenedDomain {
  readonly store: ObjectStore;
  readonly config: RepositoryConfig;
  /** null: nothing says what it is called */
  readonly name: string | null;
  /** Of a machine's id, whether it is this domain's. Default: each is, as where there are no others. */
  readonly owns?: (vmId: string, signal?: AbortSignal) => Promise<boolean>;
}

/** A repository that was opened with the right key: one encryption domain of it. */
export class Repository {
  readonly store: ObjectStore;
  readonly config: RepositoryConfig;
  readonly keys: DomainKeys;
  /** 8 hex digits */
  readonly domain: string;
  /** null: nothing says what the domain is called */
  readonly domainName: string | null;
  readonly catalog: Catalog;

  private constructor({ store, config, keys, id, name, owns }: RepositoryPart) {
    this.store = store;
    this.config = config;
    this.keys = keys;
    this.domain = id;
    this.domainName = name;
    this.catalog = new Catalog(store, keys, owns);
  }

  /** What people call the domain. */
  get label(): string {
    return this.domainName ?? this.domain;
  }

  /** A domain whose key is at hand. */
  static of(part: RepositoryPart): Repository {
    return new Repository(part);
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

  /** Rejects `no-conditional-writes` of a store that would let one backup overwrite another's point (FORMAT.md §9), and as `requireWhole`. */
  async requireSafeWrites(signal: AbortSignal): Promise<void> {
    await Promise.all([requireConditionalWrites(this.store, { signal }), this.requireWhole(signal)]);
  }

  /** Rejects `domain-destroyed` where somebody is about to destroy the domain, or has done so since it was opened. */
  async requireWhole(signal: AbortSignal): Promise<void> {
    if (!this.keys.encrypted || !(await hasTombstone(this.domain, { store: this.store, signal }))) return;
    throw domainDestroyed(this.domainName ?? this.domain, "or is about to be");
  }

  static async #withDomain(claim: ConfigClaim, access: RepositoryAccess): Promise<Repository> {
    const key = await RepositoryKey.find(claim, access.key, access);
    try {
      const { store, domain: name = DEFAULT_DOMAIN } = access;
      return new Repository({ store, config: key.config, name, ...(await openDomain(name, key, access)) });
    } finally {
      key.wipe();
    }
  }
}

/** The key of a new repository, to be overwritten: the one that was given, or one that only a slot has. */
async function firstKey(repositoryId: Uint8Array, access: RepositoryAccess): Promise<{ key: Buffer | null; slot: string | null }> {
  const { key: credential } = access;
  if (credential === null) return { key: null, slot: null };
  if (credential instanceof DomainCredential) throw new FormatError("wrong-key", "The key of one domain makes no repository");
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
