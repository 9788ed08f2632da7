import { DocumentKind } from "./format/constants.ts";
import { sealDocument } from "./format/document.ts";
import { decodeSparse, encodeSparse, MAX_SPARSE_BYTES, type SparseRecord } from "./format/sparse.ts";
import { type HintPlace, readHint, sealOf } from "./hint-document.ts";
import { sparseAt } from "./layout.ts";
import type { Repository } from "./repository.ts";

/** What prune found of a machine's packs: those of which little is needed. Only a hint; where it is lost, they stay as they are. */
export async function readSparse(repository: Repository, vmId: string, signal: AbortSignal): Promise<SparseRecord> {
  return (await readHint(repository, placeOf(repository, vmId), { decode: decodeSparse, signal })) ?? new Map<string, never>();
}

export async function writeSparse(
  repository: Repository,
  vmId: string,
  { record, signal }: { readonly record: SparseRecord; readonly signal: AbortSignal },
): Promise<void> {
  const place = placeOf(repository, vmId);
  await repository.store.put(place.at, sealDocument(encodeSparse(record), sealOf(repository, place)), { signal });
}

function placeOf({ domain }: Repository, vmId: string): HintPlace {
  return { at: sparseAt(domain, vmId), kind: DocumentKind.sparse, maxBytes: MAX_SPARSE_BYTES };
}
