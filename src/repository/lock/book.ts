import { createHash } from "node:crypto";

import { StoreError } from "../../objectstore/index.ts";
import { DocumentKind, RUN_ID_LENGTH } from "../format/constants.ts";
import { type DocumentSeal, openDocument, sealDocument } from "../format/document.ts";
import { FormatError } from "../format/errors.ts";
import { decodePackLists, encodePackLists } from "../format/pack-lists.ts";
import type { PackNumbers } from "../format/pack-numbers.ts";
import { locksAt, parsePackKey } from "../layout.ts";
import type { Repository } from "../repository.ts";

/** What an object is called in a list of packs, FORMAT.md §11: a pack by its id, anything else as a pack of a run of its own. */
export function lockName(key: string): string {
  return (
    parsePackKey(key) ??
    `${createHash("sha256")
      .update(key)
      .digest("hex")
      .slice(0, RUN_ID_LENGTH * 2)}00000000`
  );
}

/** Until which hour objects are locked, by name, as the last run wrote it down; null where that cannot be read. Only a cache. */
export async function readLockBook(repository: Repository, signal: AbortSignal): Promise<PackNumbers | null> {
  const at = locksAt(repository.domain);
  try {
    const bytes = await repository.store.get(at, { signal });
    return decodePackLists(openDocument(bytes, seal(repository)), 1, at)[0] ?? null;
  } catch (thrown) {
    const isGone = thrown instanceof StoreError && (thrown.code === "not-found" || thrown.code === "too-large");
    if (isGone || (thrown instanceof FormatError && thrown.code === "damaged")) return null;
    throw thrown;
  }
}

export async function writeLockBook(repository: Repository, book: PackNumbers, signal: AbortSignal): Promise<void> {
  await repository.store.put(locksAt(repository.domain), sealDocument(encodePackLists([book]), seal(repository)), { signal });
}

function seal({ keys, domain }: Repository): DocumentSeal {
  return { kind: DocumentKind.locks, key: keys.document, at: locksAt(domain), encrypted: keys.encrypted };
}
