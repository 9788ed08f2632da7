import type { ObjectStore } from "../../objectstore/index.ts";
import type { FrameSealer } from "../format/frame.ts";
import { decodePackTable, decodePackTrailer, PACK_TRAILER, runOfPack, type PackTrailer, type TableEntry } from "../format/pack.ts";
import { packAt } from "../layout.ts";

export interface PackReaderOptions {
  readonly store: ObjectStore;
  readonly domain: string;
  readonly sealer: FrameSealer;
  readonly signal: AbortSignal;
}

export interface PackContents {
  readonly trailer: PackTrailer;
  readonly table: readonly TableEntry[];
}

/** What a pack says it holds. Rejects with a `StoreError` when it is missing, a `FormatError` when its end is damaged. */
export async function readPackTable(pack: string, options: PackReaderOptions): Promise<PackContents> {
  const { store, domain, sealer, signal } = options;
  const key = packAt(domain, pack);
  const { size } = await store.stat(key, { signal });
  const end = Buffer.allocUnsafe(PACK_TRAILER);
  await store.read(key, Math.max(0, size - PACK_TRAILER), end, { signal });
  const trailer = decodePackTrailer(end, size);
  const stored = Buffer.allocUnsafe(trailer.tableLength);
  await store.read(key, trailer.tableOffset, stored, { signal });
  return { trailer, table: decodePackTable(stored, trailer, { sealer, runId: runOfPack(pack) }) };
}
