import { StoreError } from "../../objectstore/index.ts";
import { DocumentKind } from "../format/constants.ts";
import { type DocumentSeal, openDocument, sealDocument } from "../format/document.ts";
import { FormatError } from "../format/errors.ts";
import { FrameSealer } from "../format/frame.ts";
import type { Reference } from "../format/reference.ts";
import { usageAt } from "../layout.ts";
import type { ImageRoot } from "../map/image-map.ts";
import { NodeReader } from "../map/node-reader.ts";
import type { Repository } from "../repository.ts";
import { PackUsage } from "./pack-usage.ts";
import { followChange } from "./walk.ts";

/** An image and what it uses, once that is known. */
export interface KnownImage {
  readonly image: ImageRoot;
  readonly usage: PackUsage;
}

/**
 * What images use of the packs. It follows from their maps and is kept in a document for each map, so that a map is walked once, and of
 * it only what differs from the one before. A document that is lost or damaged is made anew.
 */
export class UsageIndex {
  readonly #repository: Repository;
  readonly #options: { readonly signal: AbortSignal; readonly keep: boolean };
  readonly #nodes: NodeReader;
  /** documents that had to be made */
  made = 0;

  /** @param options `keep`: whether what had to be found out is written down */
  constructor(repository: Repository, options: { readonly signal: AbortSignal; readonly keep: boolean }) {
    this.#repository = repository;
    this.#options = options;
    const { store, domain, keys } = repository;
    this.#nodes = new NodeReader({ store, domain, sealer: new FrameSealer(keys), signal: options.signal });
  }

  /** @param before an image that shares much with this one. Rejects where the map cannot be read. */
  async of(image: ImageRoot, before: KnownImage | null): Promise<PackUsage> {
    const { root } = image;
    if (root === null) return new PackUsage();
    const at = usageAt(this.#repository.domain, root);
    return (await this.#find(at)) ?? (await this.#make(at, image, before));
  }

  async #find(at: string): Promise<PackUsage | null> {
    try {
      const bytes = await this.#repository.store.get(at, { signal: this.#options.signal });
      return PackUsage.decode(openDocument(bytes, this.#seal(at)), at);
    } catch (thrown) {
      if (thrown instanceof FormatError && thrown.code === "damaged") return null;
      if (thrown instanceof StoreError && (thrown.code === "not-found" || thrown.code === "too-large")) return null;
      throw thrown;
    }
  }

  async #make(at: string, image: ImageRoot, before: KnownImage | null): Promise<PackUsage> {
    const usage = new PackUsage();
    if (before !== null) usage.raise(before.usage);
    await followChange(usage, { before: before?.image ?? null, after: image }, this.#nodes);
    this.made += 1;
    const { store } = this.#repository;
    if (this.#options.keep)
      await store.put(at, sealDocument(usage.encode(), this.#seal(at)), { signal: this.#options.signal }).catch(unlessFull);
    return usage;
  }

  #seal(at: string): DocumentSeal {
    const { keys } = this.#repository;
    return { kind: DocumentKind.usage, key: keys.document, at, encrypted: keys.encrypted };
  }
}

/** Names a map: the same root is the same map. */
export function rootName({ pack, offset }: Reference): string {
  return `${pack}-${offset}`;
}

/** A store without room takes nothing, and only what prune is about to remove gives it some. */
export function unlessFull(thrown: unknown): void {
  if (!(thrown instanceof StoreError && thrown.code === "no-space")) throw thrown;
}
