import { randomBytes } from "node:crypto";

import type { ObjectStore } from "../objectstore/index.ts";
import { DocumentKind } from "./format/constants.ts";
import { type DocumentSeal, openDocument, sealDocument } from "./format/document.ts";
import { damaged, FormatError } from "./format/errors.ts";
import { type DomainKeys, domainKeys, NO_KEY, repositoryKeys } from "./format/keys.ts";
import { isTaken, type RepositoryKey } from "./keys/repository-key.ts";
import { domainKeyAt, packsOf } from "./layout.ts";
import { hasAny, tryGet } from "./try-get.ts";

const MAX_KEY_DOCUMENT = 4096;

interface DomainPlaces {
  readonly store: ObjectStore;
  readonly signal?: AbortSignal;
}

/** A domain by its name: its id and what is derived from its key. Makes the key where there is none: of two who do it at once one wins, and both use the winner's. */
export async function openDomain(name: string, key: RepositoryKey, places: DomainPlaces): Promise<{ id: string; keys: DomainKeys }> {
  const { config } = key;
  const id = repositoryKeys(key.first, config.id).domainId(name);
  const domainKey = config.encrypted ? await findOrMake(domainKeyAt(id), id, { ...places, key }) : NO_KEY;
  return { id, keys: domainKeys(domainKey, config.id, config.encrypted) };
}

async function findOrMake(at: string, id: string, access: DomainPlaces & { readonly key: RepositoryKey }): Promise<Buffer> {
  const { store, signal, key } = access;
  const limits = { maxBytes: MAX_KEY_DOCUMENT, ...(signal === undefined ? {} : { signal }) };
  const found = await tryGet(store, at, limits);
  if (found !== null) return (await openDomainKey(found, at, key)).domainKey;
  // A new key for a domain that has data would hide that the data can no longer be read.
  if (await hasAny(store, packsOf(id), signal)) {
    throw new FormatError("damaged", `${at} is missing from ${store.url}: without it nothing in the repository can be read`, {
      hint: "Bring the object back from a copy or an older version of the bucket",
    });
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
