import { StoreError } from "../objectstore/index.ts";
import { DocumentKind } from "./format/constants.ts";
import { type DocumentSeal, openDocument, sealDocument } from "./format/document.ts";
import { FormatError } from "./format/errors.ts";
import { decodePackLists, encodePackLists } from "./format/pack-lists.ts";
import { PackNumbers } from "./format/pack-numbers.ts";
import { sumsAt } from "./layout.ts";
import type { Repository } from "./repository.ts";

/** What a run sent to the store, FORMAT.md §6.1: lengths and CRC-32s of its packs, to be compared with what the store says of them. */
export class PackSums {
  readonly #sizes: PackNumbers;
  readonly #crcs: PackNumbers;

  constructor(sizes: PackNumbers = new PackNumbers(), crcs: PackNumbers = new PackNumbers()) {
    this.#sizes = sizes;
    this.#crcs = crcs;
  }

  static decode(text: Uint8Array, what: string): PackSums {
    const [sizes, crcs] = decodePackLists(text, 2, what);
    return new PackSums(sizes, crcs);
  }

  encode(): Buffer {
    return encodePackLists([this.#sizes, this.#crcs]);
  }

  get isEmpty(): boolean {
    return this.#sizes.runs().length === 0;
  }

  add(pack: string, size: number, crc32: number): void {
    this.#sizes.set(pack, size);
    this.#crcs.set(pack, crc32);
  }

  /** Null where nothing was written down of the pack. */
  of(pack: string): { readonly size: number; readonly crc32: number } | null {
    const size = this.#sizes.get(pack);
    return size === 0 ? null : { size, crc32: this.#crcs.get(pack) };
  }
}

/** What was written down of a run's packs; nothing where that is not there or cannot be read. @param run 24 hex digits */
export async function readSums(repository: Repository, run: string, signal: AbortSignal): Promise<PackSums> {
  const at = sumsAt(repository.domain, run);
  try {
    return PackSums.decode(openDocument(await repository.store.get(at, { signal }), seal(repository, at)), at);
  } catch (thrown) {
    const isGone = thrown instanceof StoreError && (thrown.code === "not-found" || thrown.code === "too-large");
    if (isGone || (thrown instanceof FormatError && thrown.code === "damaged")) return new PackSums();
    throw thrown;
  }
}

export async function writeSums(repository: Repository, run: string, sums: PackSums, signal: AbortSignal): Promise<void> {
  const at = sumsAt(repository.domain, run);
  await repository.store.putIfAbsent(at, sealDocument(sums.encode(), seal(repository, at)), { signal });
}

function seal({ keys }: Repository, at: string): DocumentSeal {
  return { kind: DocumentKind.sums, key: keys.document, at, encrypted: keys.encrypted };
}
