import { FANOUT } from "../format/constants.ts";
import { type MapNode, rootLevel } from "../format/node.ts";
import { type Reference, sameReference } from "../format/reference.ts";
import type { ImageRoot } from "./image-map.ts";
import type { NodeReader } from "./node-reader.ts";

/** Granules that one image has otherwise than another. */
export interface ChangedGranules {
  /** index of the first */
  readonly first: number;
  readonly count: number;
  /** whether they are zeros now */
  readonly zero: boolean;
}

export interface ImagePair {
  /** null: an image of zeros */
  readonly before: ImageRoot | null;
  readonly after: ImageRoot;
  /** granules that are looked at */
  readonly first: number;
  readonly end: number;
}

/** A node, or at level −1 a granule. */
interface Subtree {
  readonly level: number;
  readonly reference: Reference;
}

interface Place {
  /** that a subtree here has, or would have if the image were as large */
  readonly level: number;
  /** index of the first granule below */
  readonly first: number;
  readonly before: Subtree | null;
  readonly after: Subtree | null;
}

/** Children asked for ahead where there is nothing to compare with, so that all of them are read. */
const AHEAD = 16;

/**
 * What differs between two image maps of one domain, in ascending order, and perhaps some granules before and after `first` and `end`. Costs what differs: a
 * subtree that both share is not read.
 */
export async function* changedGranules(nodes: NodeReader, pair: ImagePair): AsyncGenerator<ChangedGranules, void, undefined> {
  const [before, after] = [pair.before === null ? null : treeOf(pair.before), treeOf(pair.after)];
  const level = Math.max(before?.level ?? 0, after?.level ?? 0);
  yield* below(nodes, pair, { level, first: 0, before, after });
}

async function* below(nodes: NodeReader, pair: ImagePair, place: Place): AsyncGenerator<ChangedGranules, void, undefined> {
  const { level, first, before, after } = place;
  const count = FANOUT ** (level + 1);
  if (isOutside(pair, first, count) || isSame(before, after)) return;
  if (after === null || level < 0) {
    yield { first, count, zero: after === null };
    return;
  }
  const [old, now] = await Promise.all([childrenOf(nodes, before, level), childrenOf(nodes, after, level)]);
  for (let i = 0; i < FANOUT; i++) {
    if (before === null && now.node !== null && i % AHEAD === 0) readAhead(nodes, now.node, i);
    yield* below(nodes, pair, {
      level: level - 1,
      first: first + i * FANOUT ** level,
      before: childOf(old, i),
      after: childOf(now, i),
    });
  }
}

function childOf({ children }: Children, i: number): Subtree | null {
  return children[i] ?? null;
}

function isOutside(pair: ImagePair, first: number, count: number): boolean {
  return first >= pair.end || first + count <= pair.first;
}

function readAhead(nodes: NodeReader, node: MapNode, child: number): void {
  if (node.level > 0) nodes.prefetchChildren(node, child, AHEAD);
}

function treeOf({ size, root }: ImageRoot): Subtree | null {
  return root === null ? null : { level: rootLevel(size), reference: root };
}

/** The same content: granules by their hash, for a repository may move them; nodes by where they lie. */
function isSame(one: Subtree | null, other: Subtree | null): boolean {
  if (one === null || other === null) return one === other;
  if (one.level !== other.level) return false;
  return one.level < 0 ? one.reference.hash.equals(other.reference.hash) : sameReference(one.reference, other.reference);
}

interface Children {
  /** null where the subtree is lower than its place: it is the first child itself */
  readonly node: MapNode | null;
  readonly children: readonly (Subtree | null)[];
}

async function childrenOf(nodes: NodeReader, subtree: Subtree | null, level: number): Promise<Children> {
  if (subtree === null) return { node: null, children: [] };
  if (subtree.level < level) return { node: null, children: [subtree] };
  const node = await nodes.node(subtree.reference, level);
  return { node, children: node.children.map((reference) => reference && { level: level - 1, reference }) };
}
