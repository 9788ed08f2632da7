import { StoreError } from "../objectstore/index.ts";
import type { DocumentKind } from "./format/constants.ts";
import { type DocumentSeal, openDocument } from "./format/document.ts";
import { FormatError } from "./format/errors.ts";
import type { Repository } from "./repository.ts";

/** A document that may be lost at any time, and where it lies. */
export interface HintPlace {
  readonly at: string;
  readonly kind: DocumentKind;
  /** bytes; none of ours is longer */
  readonly maxBytes?: number;
}

/** What a hint says; null where it is gone, too long or not as it was written: that must not cost a backup. */
export async function readHint<T>(
  repository: Repository,
  { at, kind, maxBytes }: HintPlace,
  { decode, signal }: { readonly decode: (text: Uint8Array) => T; readonly signal: AbortSignal },
): Promise<T | null> {
  try {
    const bytes = await repository.store.get(at, { signal, ...(maxBytes === undefined ? {} : { maxBytes }) });
    return decode(openDocument(bytes, sealOf(repository, { at, kind })));
  } catch (thrown) {
    const isGone = thrown instanceof StoreError && (thrown.code === "not-found" || thrown.code === "too-large");
    if (isGone || thrown instanceof FormatError) return null;
    throw thrown;
  }
}

export function sealOf({ keys }: Repository, { at, kind }: HintPlace): DocumentSeal {
  return { kind, key: keys.document, at, encrypted: keys.encrypted };
}
