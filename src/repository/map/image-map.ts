import { errorText } from "../../lib/errors.ts";
import { StoreError } from "../../objectstore/index.ts";
import { FANOUT } from "../format/constants.ts";
import { FormatError } from "../format/errors.ts";
import { type MapNode, rootLevel } from "../format/node.ts";
import type { Reference } from "../format/reference.ts";
import type { NodeReader } from "./node-reader.ts";

/** Where the map of a disk of some point begins. */
export interface ImageRoot {
  readonly size: number;
  readonly root: Reference | null;
}

/** A granule that is not zero. */
export interface MappedGranule {
  /** index: offset on the disk / 65,536 */
  readonly granule: number;
  readonly reference: Reference;
}

/** A part of a map that cannot be read: the granules below a node that is missing or damaged. */
export interface LostGranules {
  readonly first: number;
  readonly count: number;
  readonly reason: string;
}

/** Children asked for ahead when a walk goes through neighbours. */
const AHEAD = 8;

/** Reads one image map: by place, or all of it in order. */
export class ImageMap {
  readonly #nodes: NodeReader;
  readonly #root: Reference | null;
  readonly #level: number;
  #lastLeaf = -2;

  constructor(nodes: NodeReader, image: ImageRoot) {
    this.#nodes = nodes;
    this.#root = image.root;
    this.#level = rootLevel(image.size);
  }

  /** What the map says of a granule; null for zeros, and beyond the image. */
  async lookup(granule: number): Promise<Reference | null> {
    if (this.#root === null || granule >= FANOUT ** (this.#level + 1)) return null;
    const leaf = Math.floor(granule / FANOUT);
    const sequential = leaf === this.#lastLeaf + 1;
    if (leaf !== this.#lastLeaf) this.#lastLeaf = leaf;
    let reference: Reference | null = this.#root;
    for (let level = this.#level; level >= 0 && reference !== null; level--) {
      const node = await this.#nodes.node(reference, level);
      const child = Math.floor(granule / FANOUT ** level) % FANOUT;
      if (level === 1 && sequential) this.#nodes.prefetchChildren(node, child, AHEAD);
      reference = node.children[child] ?? null;
    }
    return reference;
  }

  /** The first granule at or after `granule` that is not zero. */
  async firstFrom(granule: number): Promise<MappedGranule | null> {
    return this.#root === null ? null : await this.#firstBelow(this.#root, { level: this.#level, first: 0, from: granule });
  }

  /** The last granule before `granule` that is not zero. */
  async lastBefore(granule: number): Promise<number | null> {
    return this.#root === null ? null : await this.#lastBelow(this.#root, { level: this.#level, first: 0, before: granule });
  }

  /** All granules that are not zero, in ascending order. @param onLost told of damaged parts of the map, which are then left out instead of failing */
  async *granules(onLost?: (lost: LostGranules) => void): AsyncGenerator<MappedGranule, void, undefined> {
    if (this.#root !== null) yield* this.#below({ reference: this.#root, level: this.#level, first: 0 }, onLost);
  }

  /** All nodes' references, parents before children; for checks. @param onLost as for `granules` */
  async *nodes(onLost?: (lost: LostGranules) => void): AsyncGenerator<Reference, void, undefined> {
    if (this.#root !== null) yield* this.#nodesBelow({ reference: this.#root, level: this.#level, first: 0 }, onLost);
  }

  /** All of the map in ascending order, nodes before what is below them, from a granule on; parts that are lost are left out. */
  async *entries(from: number): AsyncGenerator<MapEntry, void, undefined> {
    if (this.#root !== null) yield* this.#entriesBelow({ reference: this.#root, level: this.#level, first: 0 }, from);
  }

  async *#entriesBelow(place: NodePlace, from: number): AsyncGenerator<MapEntry, void, undefined> {
    const { level, first } = place;
    const node = await this.#nodeOrLost(place, () => undefined);
    if (node === null) return;
    if (first >= from) yield place;
    const span = FANOUT ** level;
    for (let i = Math.max(0, Math.floor((from - first) / span)); i < FANOUT; i++) {
      if (level > 0 && i % AHEAD === 0) this.#nodes.prefetchChildren(node, i, 2 * AHEAD);
      const reference = node.children[i];
      if (reference === null || reference === undefined) continue;
      const below = { reference, level: level - 1, first: first + i * span };
      if (level === 0) yield below;
      else yield* this.#entriesBelow(below, from);
    }
  }

  async #firstBelow(
    reference: Reference,
    at: { readonly level: number; readonly first: number; readonly from: number },
  ): Promise<MappedGranule | null> {
    const { level, first, from } = at;
    const span = FANOUT ** level;
    const node = await this.#nodes.node(reference, level);
    for (let i = Math.max(0, Math.floor((from - first) / span)); i < FANOUT; i++) {
      const child = node.children[i];
      if (child === null || child === undefined) continue;
      const found =
        level === 0
          ? { granule: first + i, reference: child }
          : await this.#firstBelow(child, { level: level - 1, first: first + i * span, from });
      if (found !== null) return found;
    }
    return null;
  }

  async #lastBelow(
    reference: Reference,
    at: { readonly level: number; readonly first: number; readonly before: number },
  ): Promise<number | null> {
    const { level, first, before } = at;
    const span = FANOUT ** level;
    const node = await this.#nodes.node(reference, level);
    for (let i = Math.min(FANOUT, Math.ceil((before - first) / span)) - 1; i >= 0; i--) {
      const child = node.children[i];
      if (child === null || child === undefined) continue;
      const start = first + i * span;
      const found = level === 0 ? start : await this.#lastBelow(child, { level: level - 1, first: start, before });
      if (found !== null) return found;
    }
    return null;
  }

  async *#below(place: NodePlace, onLost?: (lost: LostGranules) => void): AsyncGenerator<MappedGranule, void, undefined> {
    const { level, first } = place;
    const node = await this.#nodeOrLost(place, onLost);
    if (node === null) return;
    for (let i = 0; i < FANOUT; i++) {
      if (level > 0 && i % AHEAD === 0) this.#nodes.prefetchChildren(node, i, 2 * AHEAD);
      const reference = node.children[i];
      if (reference === null || reference === undefined) continue;
      const at = first + i * FANOUT ** level;
      if (level === 0) yield { granule: at, reference };
      else yield* this.#below({ reference, level: level - 1, first: at }, onLost);
    }
  }

  async *#nodesBelow(place: NodePlace, onLost?: (lost: LostGranules) => void): AsyncGenerator<Reference, void, undefined> {
    const { level, first } = place;
    yield place.reference;
    const node = level === 0 ? null : await this.#nodeOrLost(place, onLost);
    for (const [i, reference] of (node?.children ?? []).entries()) {
      if (reference !== null) yield* this.#nodesBelow({ reference, level: level - 1, first: first + i * FANOUT ** level }, onLost);
    }
  }

  /** The node, or null when it is damaged and somebody wants to know. */
  async #nodeOrLost({ reference, level, first }: NodePlace, onLost?: (lost: LostGranules) => void): Promise<MapNode | null> {
    try {
      return await this.#nodes.node(reference, level);
    } catch (thrown) {
      if (onLost === undefined || !isLoss(thrown)) throw thrown;
      onLost({ first, count: FANOUT ** (level + 1), reason: `its map is damaged: ${errorText(thrown)}` });
      return null;
    }
  }
}

interface NodePlace {
  readonly reference: Reference;
  readonly level: number;
  /** index of the first granule below it */
  readonly first: number;
}

/** A node of a map, or at level −1 a granule. */
export type MapEntry = NodePlace;

/** Whether what was asked for is not there as it was written, and will not be next time. */
export function isLoss(thrown: unknown): boolean {
  if (thrown instanceof StoreError) return thrown.code === "not-found" || thrown.code === "out-of-range";
  return thrown instanceof FormatError && thrown.code === "damaged";
}
