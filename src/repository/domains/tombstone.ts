import type { ObjectStore } from "../../objectstore/index.ts";
import { DocumentKind } from "../format/constants.ts";
import { type DestroyedFacts, decodeDestroyed, encodeDestroyed } from "../format/domain.ts";
import { type DocumentSeal, openDocument, sealDocument } from "../format/document.ts";
import { FormatError } from "../format/errors.ts";
import { repositoryKeys } from "../format/keys.ts";
import type { RepositoryKey } from "../keys/repository-key.ts";
import { DESTROYED, destroyedAt, parseDomainKey } from "../layout.ts";
import { tryGet } from "../try-get.ts";

const MAX_BYTES = 16 * 1024 * 1024;

interface Places {
  readonly store: ObjectStore;
  readonly signal?: AbortSignal;
}

/** A domain that was destroyed, or is about to be: it is while its key is there. */
export interface Tombstone extends DestroyedFacts {
  readonly id: string;
}

/** Whether anything lies there. Who writes has no key that opens it, and begins nothing in a domain that may be about to be destroyed. */
export async function hasTombstone(domain: string, { store, signal }: Places): Promise<boolean> {
  try {
    return (await tryGet(store, destroyedAt(domain), { maxBytes: MAX_BYTES, ...optional(signal) })) !== null;
  } catch (thrown) {
    if (thrown instanceof FormatError) return true;
    throw thrown;
  }
}

/** Null where there is none. Rejects `damaged` for what nobody with the repository key has written: it destroys nothing. */
export async function readTombstone(domain: string, key: RepositoryKey, { store, signal }: Places): Promise<Tombstone | null> {
  const at = destroyedAt(domain);
  const bytes = await tryGet(store, at, { maxBytes: MAX_BYTES, ...optional(signal) });
  return bytes === null ? null : { id: domain, ...decodeDestroyed(await open(bytes, at, key), at) };
}

/** All that are genuine. */
export async function readTombstones(key: RepositoryKey, places: Places): Promise<Tombstone[]> {
  const found: Tombstone[] = [];
  for await (const { key: at } of places.store.list(DESTROYED, optional(places.signal))) {
    const domain = parseDomainKey(at);
    if (domain === null) continue;
    const tombstone = await readTombstone(domain, key, places).catch((thrown: unknown) => {
      if (thrown instanceof FormatError) return null;
      throw thrown;
    });
    if (tombstone !== null) found.push(tombstone);
  }
  return found;
}

/** Writes it and reads it back: without it, what is destroyed looks lost. */
export async function writeTombstone({ id, ...facts }: Tombstone, key: RepositoryKey, { store, signal }: Places): Promise<void> {
  const at = destroyedAt(id);
  const seal = sealOf(key.current, at, key);
  const sealed = sealDocument(encodeDestroyed(facts), seal);
  seal.key.fill(0);
  await store.put(at, sealed, optional(signal));
  if (sealed.equals(await store.get(at, { maxBytes: MAX_BYTES, ...optional(signal) }))) return;
  throw new FormatError("damaged", `${store.url} did not give back what was put into it: ${at}. Nothing was destroyed`);
}

/** It stays under the key of its time, which a later one leads back to. */
async function open(bytes: Uint8Array, at: string, key: RepositoryKey): Promise<Buffer> {
  const now = tryOpen(bytes, key.current, { at, key });
  if (!(now instanceof FormatError)) return now;
  for await (const earlier of key.earlier()) {
    const then = tryOpen(bytes, earlier, { at, key });
    if (!(then instanceof FormatError)) return then;
  }
  throw now;
}

function tryOpen(
  bytes: Uint8Array,
  under: Uint8Array,
  { at, key }: { readonly at: string; readonly key: RepositoryKey },
): Buffer | FormatError {
  const seal = sealOf(under, at, key);
  try {
    return openDocument(bytes, seal);
  } catch (thrown) {
    if (thrown instanceof FormatError) return thrown;
    throw thrown;
  } finally {
    seal.key.fill(0);
  }
}

function sealOf(under: Uint8Array, at: string, { config }: RepositoryKey): DocumentSeal & { readonly key: Buffer } {
  return { kind: DocumentKind.destroyedDomain, key: repositoryKeys(under, config.id).document, at, encrypted: true };
}

function optional(signal: AbortSignal | undefined): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
