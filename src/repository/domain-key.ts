import { randomBytes } from "node:crypto";

import type { ObjectStore } from "../objectstore/index.ts";
import { type OpenedDomain, readDomainName, writeDomainName } from "./domains/domain-name.ts";
import { readTombstone } from "./domains/tombstone.ts";
import { RepositoryError } from "./errors.ts";
import { DocumentKind } from "./format/constants.ts";
import { DEFAULT_DOMAIN, requireDomainName } from "./format/domain.ts";
import { type DocumentSeal, openDocument, sealDocument } from "./format/document.ts";
import { damaged, FormatError } from "./format/errors.ts";
import { domainKeys, NO_KEY, repositoryKeys } from "./format/keys.ts";
import { isTaken, type RepositoryKey } from "./keys/repository-key.ts";
import { domainKeyAt, packsOf } from "./layout.ts";
import { hasAny, tryGet } from "./try-get.ts";

const MAX_KEY_DOCUMENT = 4096;

interface DomainPlaces {
  readonly store: ObjectStore;
  readonly signal?: AbortSignal;
}

/** The id of a domain by its name. */
export function domainIdOf(name: string, { first, config }: RepositoryKey): string {
  return repositoryKeys(first, config.id).domainId(name);
}

/**
 * A domain by its name: its id and what is derived from its key. Makes the key where there is none: of two who do it at once one wins, and both use the
 * winner's. Rejects `domain-destroyed`: a name is not used twice.
 */
export async function openDomain(name: string, key: RepositoryKey, places: DomainPlaces): Promise<OpenedDomain> {
  const { config } = key;
  requireDomainName(name);
  const id = domainIdOf(name, key);
  if (!config.encrypted) {
    if (name === DEFAULT_DOMAIN) return { id, keys: domainKeys(NO_KEY, config.id, false) };
    throw new RepositoryError(
      "invalid",
      `The repository at ${places.store.url} is not encrypted: it has no domains with keys of their own`,
    );
  }
  const opened = { id, keys: domainKeys(await findOrMake(name, id, { ...places, key }), config.id, true) };
  // Whoever made the key may have died before it was called anything. The first domain's name needs no saying.
  if (name !== DEFAULT_DOMAIN) await ensureName(name, opened, places);
  return opened;
}

/** An existing domain by its id. Rejects `damaged` where its key is not there or not as it was written. */
export async function openDomainById(id: string, key: RepositoryKey, { store, signal }: DomainPlaces): Promise<OpenedDomain> {
  const at = domainKeyAt(id);
  const wrapped = await tryGet(store, at, { maxBytes: MAX_KEY_DOCUMENT, ...(signal === undefined ? {} : { signal }) });
  if (wrapped === null) throw missing(at, store);
  return { id, keys: domainKeys((await openDomainKey(wrapped, at, key)).domainKey, key.config.id, true) };
}

/** Makes the name of a domain readable, for whom has its key alone. */
export async function ensureName(name: string, opened: OpenedDomain, places: DomainPlaces): Promise<void> {
  if ((await readDomainName(opened, places)) !== null) return;
  const created = (await places.store.now(places)).toISOString();
  await writeDomainName(opened, { name, created }, places);
}

function missing(at: string, { url }: ObjectStore): FormatError {
  return new FormatError("damaged", `${at} is missing from ${url}: without it nothing of its domain can be read`, {
    hint: "Bring the object back from a copy or an older version of the bucket",
  });
}

/** Of something that is there no more on purpose. */
export function domainDestroyed(name: string, time: string): RepositoryError {
  return new RepositoryError("domain-destroyed", `The domain ${name} was destroyed (${time}): nobody can read what was in it`, {
    hint: "Nothing new can be stored under that name either: take another",
  });
}

async function findOrMake(name: string, id: string, access: DomainPlaces & { readonly key: RepositoryKey }): Promise<Buffer> {
  const { store, signal, key } = access;
  const at = domainKeyAt(id);
  const limits = { maxBytes: MAX_KEY_DOCUMENT, ...(signal === undefined ? {} : { signal }) };
  const found = await tryGet(store, at, limits);
  if (found !== null) return (await openDomainKey(found, at, key)).domainKey;
  const tombstone = await readTombstone(id, key, access);
  if (tombstone !== null) throw domainDestroyed(name, tombstone.time);
  // A new key for a domain that has data would hide that the data can no longer be read.
  if (await hasAny(store, packsOf(id), signal)) {
    throw missing(at, store);
  }
  const made = randomBytes(32);
  await store.putIfAbsent(at, sealDomainKey(made, at, key), limits).catch((thrown: unknown) => {
    if (!isTaken(thrown)) throw thrown;
  });
  made.fill(0);
  // A rotation that began meanwhile may not have seen it (FORMAT.md §4.2).
  await key.requireCurrent();
  return (await openDomainKey(await store.get(at, limits), at, key)).domainKey;
}

/** Opens a wrapped domain key under the repository key of now, or under an earlier one that a rotation has left it under. */
export async function openDomainKey(
  wrapped: Uint8Array,
  at: string,
  key: RepositoryKey,
): Promise<{ readonly domainKey: Buffer; readonly current: boolean }> {
  const now = tryOpen(wrapped, key.current, { at, repositoryId: key.config.id });
  if (!(now instanceof FormatError)) return { domainKey: now, current: true };
  for await (const earlier of key.earlier()) {
    const then = tryOpen(wrapped, earlier, { at, repositoryId: key.config.id });
    if (!(then instanceof FormatError)) return { domainKey: then, current: false };
  }
  await key.requireCurrent();
  throw now;
}

/** A domain key as it lies in the store. */
export function sealDomainKey(domainKey: Uint8Array, at: string, { current, config }: RepositoryKey): Buffer {
  const seal = sealOf(current, { at, repositoryId: config.id });
  const sealed = sealDocument(domainKey, seal);
  seal.key.fill(0);
  return sealed;
}

interface WrappedAt {
  readonly at: string;
  readonly repositoryId: Uint8Array;
}

function tryOpen(wrapped: Uint8Array, key: Uint8Array, place: WrappedAt): Buffer | FormatError {
  const seal = sealOf(key, place);
  try {
    const opened = openDocument(wrapped, seal);
    return opened.length === 32 ? opened : damaged(`${place.at} does not hold a key`);
  } catch (thrown) {
    if (thrown instanceof FormatError) return thrown;
    throw thrown;
  } finally {
    seal.key.fill(0);
  }
}

function sealOf(key: Uint8Array, { at, repositoryId }: WrappedAt): DocumentSeal & { readonly key: Buffer } {
  return { kind: DocumentKind.domainKey, key: repositoryKeys(key, repositoryId).document, at, encrypted: true };
}
