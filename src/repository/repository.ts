import { randomBytes } from "node:crypto";

import { type ObjectStore, requireConditionalWrites, StoreError } from "../objectstore/index.ts";
import { Catalog } from "./catalog.ts";
import { RepositoryError } from "./errors.ts";
import { decodeConfig, encodeConfig, type RepositoryConfig } from "./format/config.ts";
import { DocumentKind, FORMAT_VERSION } from "./format/constants.ts";
import { openDocument, sealDocument } from "./format/document.ts";
import { damaged, FormatError } from "./format/errors.ts";
import { type DomainKeys, domainKeys, NO_KEY, repositoryKeys } from "./format/keys.ts";
import { CONFIG, domainKeyAt, packsOf, POINTS } from "./layout.ts";

const DEFAULT_DOMAIN = "default";
const MAX_CONFIG = 64 * 1024;
const MAX_KEY_DOCUMENT = 4096;

export interface RepositoryAccess {
  readonly store: ObjectStore;
  /** 32 bytes, or null for a repository without encryption */
  readonly key: Uint8Array | null;
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

  /** Makes an empty repository in the store. Rejects `already-a-repository`. */
  static async init(access: RepositoryAccess): Promise<Repository> {
    const { store, key } = access;
    const created = (await store.now(access)).toISOString();
    const config: RepositoryConfig = { version: FORMAT_VERSION, id: randomBytes(16), created, encrypted: key !== null };
    await requireNoLeftovers(access);
    try {
      await store.putIfAbsent(CONFIG, encodeConfig(config, key ?? NO_KEY), access);
    } catch (cause) {
      if (!(cause instanceof StoreError) || cause.code !== "already-exists") throw cause;
      throw new RepositoryError("already-a-repository", `There is a repository at ${store.url} already`, {
        cause,
        hint: "Choose another prefix, or use the one that is there",
      });
    }
    return await Repository.#withDomain(config, access);
  }

  /** Opens a repository. Rejects `not-a-repository`, and with a `FormatError` for a wrong key, damage or a newer format. */
  static async open(access: RepositoryAccess): Promise<Repository> {
    let bytes: Uint8Array;
    try {
      bytes = await access.store.get(CONFIG, { ...access, maxBytes: MAX_CONFIG });
    } catch (cause) {
      if (!(cause instanceof StoreError) || cause.code !== "not-found") throw cause;
      throw new RepositoryError("not-a-repository", `There is no repository at ${access.store.url}`, {
        cause,
        hint: "Make one with `thinstream init`, or correct the URL",
      });
    }
    return await Repository.#withDomain(decodeConfig(bytes, access.key), access);
  }

  /** Rejects `no-conditional-writes` of a store that would let one backup overwrite another's point (FORMAT.md §9). */
  async requireSafeWrites(signal: AbortSignal): Promise<void> {
    await requireConditionalWrites(this.store, { signal });
  }

  static async #withDomain(config: RepositoryConfig, access: RepositoryAccess): Promise<Repository> {
    const id = repositoryKeys(access.key ?? NO_KEY, config.id).domainId(DEFAULT_DOMAIN);
    const key = config.encrypted ? await domainKey(id, config, access) : NO_KEY;
    return new Repository(access.store, config, { id, keys: domainKeys(key, config.id, config.encrypted) });
  }
}

/** Reads the domain's key, or makes it: of two who make it at once one wins, and both use the winner's. */
async function domainKey(id: string, config: RepositoryConfig, access: RepositoryAccess): Promise<Buffer> {
  const at = domainKeyAt(id);
  const seal = { kind: DocumentKind.domainKey, key: repositoryKeys(access.key ?? NO_KEY, config.id).document, at, encrypted: true };
  const found = await tryGet(at, access);
  if (found === null) {
    await requireUnused(id, at, access);
    await access.store.putIfAbsent(at, sealDocument(randomBytes(32), seal), access).catch((thrown: unknown) => {
      if (!(thrown instanceof StoreError) || thrown.code !== "already-exists") throw thrown;
    });
  }
  const key = openDocument(found ?? (await access.store.get(at, { ...access, maxBytes: MAX_KEY_DOCUMENT })), seal);
  if (key.length !== 32) throw damaged(`${at} does not hold a key`);
  return key;
}

/** Points without a config were of a repository that lost it: a new one would hide them for ever. */
async function requireNoLeftovers(access: RepositoryAccess): Promise<void> {
  if (!(await hasAny(POINTS, access)) || (await hasAny(CONFIG, access))) return;
  throw new FormatError("damaged", `There are restore points at ${access.store.url}, but their repository's ${CONFIG} is missing`, {
    hint: "Bring the object back from a copy or an older version of the bucket, or choose another prefix",
  });
}

/** A new key for a domain that has data would hide that the data can no longer be read. */
async function requireUnused(domain: string, at: string, access: RepositoryAccess): Promise<void> {
  const { store } = access;
  if (!(await hasAny(packsOf(domain), access))) return;
  throw new FormatError("damaged", `${at} is missing from ${store.url}: without it nothing in the repository can be read`, {
    hint: "Bring the object back from a copy or an older version of the bucket",
  });
}

async function hasAny(prefix: string, { store, signal }: RepositoryAccess): Promise<boolean> {
  const listing = store.list(prefix, signal === undefined ? {} : { signal })[Symbol.asyncIterator]();
  const first = await listing.next();
  await listing.return?.();
  return first.done !== true;
}

async function tryGet(at: string, access: RepositoryAccess): Promise<Uint8Array | null> {
  try {
    return await access.store.get(at, { ...access, maxBytes: MAX_KEY_DOCUMENT });
  } catch (thrown) {
    if (thrown instanceof StoreError && thrown.code === "not-found") return null;
    throw thrown;
  }
}
