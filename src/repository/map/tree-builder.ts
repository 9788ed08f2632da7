import { RepositoryError } from "../errors.ts";
import { FANOUT } from "../format/constants.ts";
import { type MapNode, rootLevel } from "../format/node.ts";
import { type Reference, sameReference } from "../format/reference.ts";
import type { ImageRoot } from "./image-map.ts";
import type { NodeReader } from "./node-reader.ts";

/** Stores a node that has at least one child. */
export type NodeWriter = (node: MapNode) => Promise<Reference>;

export interface TreeIo {
  readonly nodes: NodeReader;
  readonly write: NodeWriter;
  /** whether a node of the base map is written again wherever it is opened; default: none is */
  readonly isStale?: (node: Reference) => boolean;
}

interface OpenNode {
  readonly index: number;
  readonly children: (Reference | null)[];
  changed: boolean;
}

const EMPTY: readonly null[] = Array.from({ length: FANOUT }, () => null);

/**
 * Builds a new image map out of a base map and changes that come in ascending order. Only one path of nodes is open at a time; subtrees without a change are
 * taken over by reference and never read.
 */
export class TreeBuilder {
  readonly #nodes: NodeReader;
  readonly #write: NodeWriter;
  readonly #isStale: (node: Reference) => boolean;
  readonly #level: number;
  readonly #path: (OpenNode | null)[];
  #root: Reference | null = null;
  /** first granule that may still change */
  #from = 0;

  private constructor(size: number, { nodes, write, isStale }: TreeIo) {
    this.#nodes = nodes;
    this.#write = write;
    this.#isStale = isStale ?? ((): boolean => false);
    this.#level = rootLevel(size);
    this.#path = Array.from({ length: this.#level + 1 }, () => null);
  }

  /** @param size bytes of the new disk @param base null: begin with all zeros */
  static async start(size: number, base: ImageRoot | null, io: TreeIo): Promise<TreeBuilder> {
    const builder = new TreeBuilder(size, io);
    if (base !== null) builder.#root = await builder.#fit(base);
    return builder;
  }

  async set(granule: number, reference: Reference | null): Promise<void> {
    this.#goOn(granule, granule + 1);
    const leaf = await this.#open(0, Math.floor(granule / FANOUT));
    replace(leaf, granule % FANOUT, reference);
  }

  /** Makes `count` granules from `first` zeros; whole subtrees go without being read. */
  async clear(first: number, count: number): Promise<void> {
    let at = first;
    const end = Math.min(first + count, FANOUT ** (this.#level + 1));
    this.#goOn(first, end);
    while (at < end) {
      const level = this.#largestAligned(at, end - at);
      const span = FANOUT ** level;
      const node = await this.#open(level, Math.floor(at / (span * FANOUT)));
      replace(node, Math.floor(at / span) % FANOUT, null);
      at += span;
    }
  }

  /** Opens the node of this level that begins at a granule, so that it is written again where it is stale. */
  async touch(granule: number, level: number): Promise<void> {
    if (level > this.#level) return;
    this.#goOn(granule, granule);
    await this.#open(level, Math.floor(granule / FANOUT ** (level + 1)));
  }

  /** Stores what is still open. @returns the root of the new map, null when all is zeros */
  async finish(): Promise<Reference | null> {
    await this.#closeBelow(this.#level + 1);
    return this.#root;
  }

  /** A node that was closed may not be in the store yet, so there is no way back to it. */
  #goOn(first: number, end: number): void {
    if (first < this.#from)
      throw new RepositoryError("invalid", `A map takes granules in order of place: ${first} came after ${this.#from - 1}`);
    this.#from = Math.max(this.#from, end);
  }

  /** The highest level at which one child is exactly at `at` and no longer than `count`. */
  #largestAligned(at: number, count: number): number {
    let level = 0;
    while (level < this.#level && at % FANOUT ** (level + 1) === 0 && FANOUT ** (level + 1) <= count) level++;
    return level;
  }

  async #open(target: number, index: number): Promise<OpenNode> {
    const open = this.#path[target];
    if (open !== null && open !== undefined && open.index === index) {
      await this.#closeBelow(target);
      return open;
    }
    const parent = target === this.#level ? null : await this.#open(target + 1, Math.floor(index / FANOUT));
    await this.#closeBelow(target + 1);
    const reference = parent === null ? this.#root : (parent.children[index % FANOUT] ?? null);
    const children = reference === null ? EMPTY : (await this.#nodes.node(reference, target)).children;
    const node = { index, children: [...children], changed: reference !== null && this.#isStale(reference) };
    this.#path[target] = node;
    return node;
  }

  /** Closes the open nodes of all levels below `level`, lowest first, each handing its new reference to its parent. */
  async #closeBelow(level: number): Promise<void> {
    for (let i = 0; i < level; i++) {
      const node = this.#path[i];
      if (node === null || node === undefined) continue;
      this.#path[i] = null;
      if (!node.changed) continue;
      const reference = node.children.every((child) => child === null) ? null : await this.#write({ level: i, children: node.children });
      const parent = this.#path[i + 1];
      if (parent === null || parent === undefined) this.#root = reference;
      else replace(parent, node.index % FANOUT, reference);
    }
  }

  /** Gives a base map of another size the height of the new one. */
  async #fit(base: ImageRoot): Promise<Reference | null> {
    let { root } = base;
    let level = rootLevel(base.size);
    for (; level > this.#level && root !== null; level--) root = (await this.#nodes.node(root, level)).children[0] ?? null;
    for (; level < this.#level && root !== null; level++) {
      const node = { level: level + 1, children: [root, ...EMPTY.slice(1)] };
      root = await this.#write(node);
      this.#nodes.adopt(root, node);
    }
    return root;
  }
}

function replace(node: OpenNode, child: number, reference: Reference | null): void {
  if (sameReference(node.children[child] ?? null, reference)) return;
  node.children[child] = reference;
  node.changed = true;
}
