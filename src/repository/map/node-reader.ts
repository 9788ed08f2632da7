import type { ObjectStore } from "../../objectstore/index.ts";
import { Codec, FANOUT, FrameKind } from "../format/constants.ts";
import { damaged } from "../format/errors.ts";
import type { FrameSealer } from "../format/frame.ts";
import { decodeNode, type MapNode } from "../format/node.ts";
import { runOfPack } from "../format/pack.ts";
import { damagedAt, type Reference } from "../format/reference.ts";
import { packAt } from "../layout.ts";

/** Nodes kept at hand; about 5 KiB each. */
const CACHE_NODES = 2048;
/** Sibling nodes no further apart in a pack than this are fetched in one request. */
const GAP = 16 * 1024;
const MAX_NODE = 64 * 1024;
/** Nodes of one run lie side by side, so they are read in blocks: a scattered map would take a request of a hundred bytes for each of them. */
const BLOCK = 64 * 1024;
const CACHE_BLOCKS = 64;
/** Packs whose known length is kept. */
const CACHE_PACKS = 4096;
/** Bytes of the longest group: all children of a node. */
const MAX_READ = FANOUT * (MAX_NODE + GAP);

export interface NodeReaderOptions {
  readonly store: ObjectStore;
  readonly domain: string;
  readonly sealer: FrameSealer;
  readonly signal?: AbortSignal;
  /** nodes kept at hand; default 2048 */
  readonly nodes?: number;
}

/** Part of a pack, from a multiple of `BLOCK` on. */
interface Block {
  readonly end: number;
  readonly bytes: Promise<Buffer | null>;
}

/** Fetches, opens and checks map nodes, each once while it is in the cache. */
export class NodeReader {
  readonly #options: NodeReaderOptions;
  readonly #cache = new Map<string, Promise<MapNode>>();
  readonly #blocks = new Map<string, Block>();
  /** bytes that a pack must have at least, by what refers to it: nothing beyond is asked for */
  readonly #knownEnds = new Map<string, number>();

  constructor(options: NodeReaderOptions) {
    this.#options = options;
  }

  async node(reference: Reference, level: number): Promise<MapNode> {
    return await (this.#cached(reference) ?? this.#remember(reference, this.#fetchOne(reference, level)));
  }

  /** Takes a node that was just written, and may not be in the store yet. */
  adopt(reference: Reference, node: MapNode): void {
    void this.#remember(reference, Promise.resolve(node));
  }

  /** Fetches the children `from`… of a node (level above 0) that are not at hand, neighbours together, so that later `node` calls find them. */
  prefetchChildren(parent: MapNode, from: number, count: number): void {
    const wanted = parent.children
      .slice(from, Math.min(FANOUT, from + count))
      .filter((child) => child !== null && this.#cached(child) === undefined);
    for (const group of neighbours(wanted as Reference[])) this.#fetchGroup(group, parent.level - 1);
  }

  #fetchGroup(group: readonly Reference[], level: number): void {
    const [first, last] = [group[0] as Reference, group.at(-1) as Reference];
    if (first === last) {
      void this.#remember(first, this.#fetchOne(first, level));
      return;
    }
    const bytes = this.#read(first.pack, first.offset, last.offset + last.length - first.offset);
    for (const reference of group) {
      const at = reference.offset - first.offset;
      void this.#remember(
        reference,
        bytes.then(
          (all) => this.#open(all.subarray(at, at + reference.length), reference, level),
          // A pack that is cut short may still hold some of them.
          async () => await this.#fetchOne(reference, level),
        ),
      );
    }
  }

  async #fetchOne(reference: Reference, level: number): Promise<MapNode> {
    const { pack, offset, length } = reference;
    // What is lost of a block need not be what is wanted of it.
    const stored = (await this.#fromBlock(reference)) ?? (await this.#read(pack, offset, length));
    return this.#open(stored, reference, level);
  }

  /** The bytes of a reference out of the block it lies in; null when that cannot be read, or does not hold all of it. */
  async #fromBlock(reference: Reference): Promise<Buffer | null> {
    const { pack, offset, length } = reference;
    const start = offset - (offset % BLOCK);
    if (offset + length > start + BLOCK) return null;
    this.#noteEnd(reference);
    const key = `${pack}${start}`;
    let block = this.#blocks.get(key);
    if (block === undefined || block.end < offset + length) {
      const end = Math.min(start + BLOCK, this.#knownEnds.get(pack) ?? 0);
      block = { end, bytes: this.#read(pack, start, end - start).catch(() => null) };
    }
    remember(this.#blocks, { key, value: block, capacity: CACHE_BLOCKS });
    const bytes = await block.bytes;
    return bytes?.subarray(offset - start, offset - start + length) ?? null;
  }

  #noteEnd({ pack, offset, length }: Reference): void {
    const value = Math.max(this.#knownEnds.get(pack) ?? 0, offset + length);
    remember(this.#knownEnds, { key: pack, value, capacity: CACHE_PACKS });
  }

  async #read(pack: string, offset: number, length: number): Promise<Buffer> {
    const { store, domain, signal } = this.#options;
    if (length > MAX_READ) throw damaged("A map node's reference does not describe a node");
    const bytes = Buffer.allocUnsafe(length);
    await store.read(packAt(domain, pack), offset, bytes, signal === undefined ? {} : { signal });
    return bytes;
  }

  #open(stored: Buffer, reference: Reference, level: number): MapNode {
    const { sealer } = this.#options;
    const { codec, hash, pack } = reference;
    const textLength = stored.length - sealer.overhead;
    try {
      if (codec !== Codec.none || stored.length > MAX_NODE || textLength <= 0) throw damaged("A map node's reference describes no node");
      const text = sealer.open(FrameKind.node, stored, { runId: runOfPack(pack), codec: Codec.none, hash, textLength });
      const node = decodeNode(Buffer.from(text), level);
      if (level > 0) for (const child of node.children) if (child !== null) this.#noteEnd(child);
      return node;
    } catch (cause) {
      throw damagedAt(reference, cause);
    }
  }

  #cached(reference: Reference): Promise<MapNode> | undefined {
    const key = cacheKey(reference);
    const found = this.#cache.get(key);
    if (found !== undefined) {
      this.#cache.delete(key);
      this.#cache.set(key, found);
    }
    return found;
  }

  #remember(reference: Reference, node: Promise<MapNode>): Promise<MapNode> {
    const key = cacheKey(reference);
    remember(this.#cache, { key, value: node, capacity: this.#options.nodes ?? CACHE_NODES });
    // A failure is told to who asks for the node, and a later call tries again.
    node.catch(() => this.#cache.delete(key));
    return node;
  }
}

/** Puts an entry last; the first goes where there are too many. */
function remember<T>(cache: Map<string, T>, entry: { readonly key: string; readonly value: T; readonly capacity: number }): void {
  cache.delete(entry.key);
  cache.set(entry.key, entry.value);
  if (cache.size > entry.capacity) cache.delete(cache.keys().next().value as string);
}

function cacheKey(reference: Reference): string {
  return `${reference.pack}${reference.offset}`;
}

function neighbours(references: readonly Reference[]): Reference[][] {
  const sorted = references.toSorted((a, b) => (a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1));
  const groups: Reference[][] = [];
  for (const reference of sorted) {
    const previous = groups.at(-1)?.at(-1);
    const near =
      previous !== undefined && previous.pack === reference.pack && reference.offset - (previous.offset + previous.length) <= GAP;
    if (near) groups.at(-1)?.push(reference);
    else groups.push([reference]);
  }
  return groups;
}
