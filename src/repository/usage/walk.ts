import { FANOUT } from "../format/constants.ts";
import { damaged } from "../format/errors.ts";
import { rootLevel } from "../format/node.ts";
import { type Reference, sameReference } from "../format/reference.ts";
import type { ImageRoot } from "../map/image-map.ts";
import type { NodeReader } from "../map/node-reader.ts";
import type { PackUsage } from "./pack-usage.ts";

/** What a reference leads to: a node of this level and all below it, or a granule. */
interface Tree {
  readonly reference: Reference;
  readonly level: number;
}

/** The level below that of the lowest nodes. */
const GRANULES = -1;

/**
 * Brings `usage`, what the map of `before` refers to, to that of `after`. What the two maps share is not read, so that a
 * chain of points costs what changed between them. @param before null: `usage` is empty
 */
export async function followChange(
  usage: PackUsage,
  { before, after }: { readonly before: ImageRoot | null; readonly after: ImageRoot },
  nodes: NodeReader,
): Promise<void> {
  await new Walk(usage, nodes).differ(treeOf(before), treeOf(after));
}

function treeOf(image: ImageRoot | null): Tree | null {
  return image === null || image.root === null ? null : { reference: image.root, level: rootLevel(image.size) };
}

class Walk {
  readonly #usage: PackUsage;
  readonly #nodes: NodeReader;

  constructor(usage: PackUsage, nodes: NodeReader) {
    this.#usage = usage;
    this.#nodes = nodes;
  }

  async differ(before: Tree | null, after: Tree | null): Promise<void> {
    if (isSame(before, after)) return;
    const level = Math.max(before?.level ?? GRANULES, after?.level ?? GRANULES);
    if (level === GRANULES) {
      this.#count(before, -1);
      this.#count(after, 1);
      return;
    }
    const [old, young] = await Promise.all([this.#below(before, level, -1), this.#below(after, level, 1)]);
    this.#prefetch(level, old, young);
    this.#prefetch(level, young, old);
    for (let i = 0; i < FANOUT; i++) await this.differ(old[i] ?? null, young[i] ?? null);
  }

  /** What is below a tree's root, which counts; a tree that is lower than `level` stands where it would below a root of that level. */
  async #below(tree: Tree | null, level: number, sign: 1 | -1): Promise<readonly (Tree | null)[]> {
    if (tree === null || tree.level < level) return [tree];
    const { children } = await this.#nodes.node(tree.reference, level);
    this.#count(tree, sign);
    return children.map((reference) => (reference === null ? null : { reference, level: level - 1 }));
  }

  /** Asks at once for the nodes that will be opened. */
  #prefetch(level: number, mine: readonly (Tree | null)[], others: readonly (Tree | null)[]): void {
    if (level === 0) return;
    const wanted = mine.map((tree, i) =>
      tree === null || tree.level < level - 1 || isSame(tree, others[i] ?? null) ? null : tree.reference,
    );
    this.#nodes.prefetchChildren({ level, children: wanted }, 0, FANOUT);
  }

  #count(tree: Tree | null, sign: 1 | -1): void {
    if (tree === null) return;
    const { pack, offset, length } = tree.reference;
    const { bytes, ends } = this.#usage;
    const used = bytes.get(pack) + sign * length;
    if (used < 0) throw damaged(`Two maps do not agree on what they have in pack ${pack}`);
    bytes.set(pack, used);
    // What once was there is still there, for as long as anything of the pack is needed.
    ends.set(pack, used === 0 ? 0 : Math.max(ends.get(pack), offset + length));
  }
}

function isSame(a: Tree | null, b: Tree | null): boolean {
  return a?.level === b?.level && sameReference(a?.reference ?? null, b?.reference ?? null);
}
