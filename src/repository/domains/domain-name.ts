import type { ObjectStore } from "../../objectstore/index.ts";
import { DocumentKind } from "../format/constants.ts";
import { decodeDomainFacts, type DomainFacts, encodeDomainFacts } from "../format/domain.ts";
import { type DocumentSeal, openDocument, sealDocument } from "../format/document.ts";
import { FormatError } from "../format/errors.ts";
import type { DomainKeys } from "../format/keys.ts";
import { isTaken } from "../keys/repository-key.ts";
import { domainNameAt } from "../layout.ts";
import { tryGet } from "../try-get.ts";

const MAX_BYTES = 4096;

interface Places {
  readonly store: ObjectStore;
  readonly signal?: AbortSignal;
}

/** A domain that was opened. */
export interface OpenedDomain {
  readonly id: string;
  readonly keys: DomainKeys;
}

/** Null where nothing is written down. Rejects `damaged`, also for a key that is not the domain's. */
export async function readDomainName({ id, keys }: OpenedDomain, { store, signal }: Places): Promise<DomainFacts | null> {
  const at = domainNameAt(id);
  const bytes = await tryGet(store, at, { maxBytes: MAX_BYTES, ...(signal === undefined ? {} : { signal }) });
  return bytes === null ? null : decodeDomainFacts(openDocument(bytes, sealOf(at, keys)), at);
}

/** The same where damage costs the name alone. */
export async function nameIfKnown(domain: OpenedDomain, places: Places): Promise<DomainFacts | null> {
  return await readDomainName(domain, places).catch((thrown: unknown) => {
    if (thrown instanceof FormatError) return null;
    throw thrown;
  });
}

/** Writes down what a domain is called, where that is not there yet. */
export async function writeDomainName({ id, keys }: OpenedDomain, facts: DomainFacts, { store, signal }: Places): Promise<void> {
  const at = domainNameAt(id);
  const options = signal === undefined ? {} : { signal };
  await store.putIfAbsent(at, sealDocument(encodeDomainFacts(facts), sealOf(at, keys)), options).catch((thrown: unknown) => {
    if (!isTaken(thrown)) throw thrown;
  });
}

function sealOf(at: string, { document, encrypted }: DomainKeys): DocumentSeal {
  return { kind: DocumentKind.domainName, key: document, at, encrypted };
}
