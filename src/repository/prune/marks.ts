import { randomBytes } from "node:crypto";

import { StoreError } from "../../objectstore/index.ts";
import { DocumentKind } from "../format/constants.ts";
import { type DocumentSeal, openDocument, sealDocument } from "../format/document.ts";
import { FormatError } from "../format/errors.ts";
import type { PackNumbers } from "../format/pack-numbers.ts";
import { decodePackLists, encodePackLists } from "../format/pack-lists.ts";
import { marksOf } from "../layout.ts";
import type { Repository } from "../repository.ts";

/** Where a prune wrote down what it found. */
export interface MarkPlace {
  readonly key: string;
  /** when the mark began, by the store's clock */
  readonly at: Date;
}

/** Records of what nothing referred to, FORMAT.md §11: packs and their bytes, each record under the time at which its mark began. */
export class Marks {
  readonly #repository: Repository;
  readonly #signal: AbortSignal;

  constructor(repository: Repository, signal: AbortSignal) {
    this.#repository = repository;
    this.#signal = signal;
  }

  /** Oldest first. */
  async list(): Promise<MarkPlace[]> {
    const prefix = marksOf(this.#repository.domain);
    const found: MarkPlace[] = [];
    for await (const { key } of this.#repository.store.list(prefix, { signal: this.#signal })) {
      const match = /^([0-9]{15})-[0-9a-f]{8}$/.exec(key.slice(prefix.length));
      if (match !== null) found.push({ key, at: new Date(Number(match[1])) });
    }
    return found;
  }

  /** What was unreferenced then; null where that cannot be read any more. */
  async read({ key }: MarkPlace): Promise<PackNumbers | null> {
    try {
      const bytes = await this.#repository.store.get(key, { signal: this.#signal });
      return decodePackLists(openDocument(bytes, this.#seal(key)), 1, key)[0] ?? null;
    } catch (thrown) {
      const isGone = thrown instanceof StoreError && (thrown.code === "not-found" || thrown.code === "too-large");
      if (isGone || (thrown instanceof FormatError && thrown.code === "damaged")) return null;
      throw thrown;
    }
  }

  async write(at: Date, unreferenced: PackNumbers): Promise<void> {
    const key = `${marksOf(this.#repository.domain)}${String(at.getTime()).padStart(15, "0")}-${randomBytes(4).toString("hex")}`;
    const sealed = sealDocument(encodePackLists([unreferenced]), this.#seal(key));
    await this.#repository.store.putIfAbsent(key, sealed, { signal: this.#signal });
  }

  async remove({ key }: MarkPlace): Promise<void> {
    await this.#repository.store.delete(key, { signal: this.#signal });
  }

  #seal(at: string): DocumentSeal {
    const { keys } = this.#repository;
    return { kind: DocumentKind.mark, key: keys.document, at, encrypted: keys.encrypted };
  }
}
