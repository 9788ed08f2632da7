import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { rootLevel } from "../../src/repository/format/node.ts";
import type { Reference } from "../../src/repository/format/reference.ts";
import type { GranuleRun } from "../../src/repository/map/granules.ts";
import type { ImageRoot } from "../../src/repository/map/image-map.ts";
import { TreeBuilder } from "../../src/repository/map/tree-builder.ts";
import { Compaction } from "../../src/repository/write/compaction.ts";
import { granuleAt, granulesOf, NodeStore } from "./map/node-store.ts";

const GRANULE = 65_536;
const FANOUT = 32;
const MiB = 2 ** 20;
/** Granules that a run may store again where little changed. */
const FLOOR = (256 * MiB) / GRANULE;
const runs = (numRuns: number): { readonly numRuns: number } => ({ numRuns: process.env["SOAK"] === "1" ? numRuns * 20 : numRuns });

const near = fc.tuple(fc.constantFrom(1, 32, 1024, 32_768), fc.integer({ min: -40, max: 40 })).map(([size, by]) => Math.max(1, size + by));
const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const history = fc.record({
  size: near,
  after: fc.option(near),
  places: fc.array(share, { maxLength: 60 }),
  changes: fc.array(fc.record({ at: share, count: fc.constantFrom(1, 3, 32, 100, 1024), zero: fc.boolean() }), { maxLength: 6 }),
  /** which packs are sparse: one in so many */
  every: fc.constantFrom(1, 2, 5),
});

/** A map that was written in two runs, so that its nodes are of two ages. */
async function build(nodes: NodeStore, size: number, places: readonly number[]): Promise<ImageRoot> {
  let image: ImageRoot | null = null;
  for (const half of [places.filter((_, i) => i % 2 === 0), places]) {
    const tree = await TreeBuilder.start(size * GRANULE, image, { nodes: nodes.reader(), write: nodes.write });
    const granules = new Set(half.map((at) => Math.floor(at * size)));
    for (const granule of [...granules].toSorted((a, b) => a - b)) await tree.set(granule, granuleAt(granule));
    image = { size: size * GRANULE, root: await tree.finish() };
  }
  return image as ImageRoot;
}

/** Changes as runs that neither overlap nor leave the disk. */
function runsOf(changes: readonly { readonly at: number; readonly count: number; readonly zero: boolean }[], size: number): GranuleRun[] {
  const found: GranuleRun[] = [];
  let next = 0;
  for (const { at, count, zero } of changes.toSorted((a, b) => a.at - b.at)) {
    const first = Math.max(next, Math.floor(at * size));
    if (first >= size) break;
    next = Math.min(size, first + count);
    found.push({ kind: zero ? "zero" : "data", first, count: next - first, parts: null });
  }
  return found;
}

async function* each<T>(all: readonly T[]): AsyncGenerator<T, void, undefined> {
  yield* all;
}

async function packsOf(nodes: NodeStore, image: ImageRoot): Promise<Set<string>> {
  const packs = new Set<string>();
  for await (const { pack } of nodes.map(image).nodes()) packs.add(pack);
  for (const { pack } of (await granulesOf(nodes.map(image))).values()) packs.add(pack);
  return packs;
}

describe("what lies in sparse packs", () => {
  test("is left behind by one run where it may take all: granules and nodes, whatever changed amid them and whatever the sizes", async () => {
    let left = 0;
    await fc.assert(
      fc.asyncProperty(history, async ({ size, after, places, changes, every }) => {
        const nodes = new NodeStore();
        const base = await build(nodes, size, places);
        const sparse = new Set([...(await packsOf(nodes, base))].filter((_, i) => i % every === 0));
        const model = new Map<number, Reference>();
        const [now, end] = [after ?? size, Math.min(size, after ?? size)];
        for (const [granule, reference] of await granulesOf(nodes.map(base))) if (granule < end) model.set(granule, reference);
        const expected = new Map(model);
        const compaction = new Compaction({ packs: sparse, from: 0, changedBytes: 0 });
        const isStale = ({ pack }: Reference): boolean => sparse.has(pack);
        const tree = await TreeBuilder.start(now * GRANULE, base, { nodes: nodes.reader(), write: nodes.write, isStale });
        const changed = runsOf(changes, now);
        let fresh = 1_000_000;
        for await (const run of compaction.amid(each(changed), { base: nodes.map(base), end })) {
          if (run.kind === "node") await tree.touch(run.first, run.level);
          else if (run.kind === "zero") {
            await tree.clear(run.first, run.count);
            for (let i = 0; i < run.count; i++) expected.delete(run.first + i);
          } else {
            for (let i = 0; i < (run.kind === "data" ? run.count : 1); i++) {
              if (run.kind === "granule") expect(sparse.has(model.get(run.first)?.pack ?? "")).toBe(true);
              const reference = granuleAt(fresh++);
              await tree.set(run.first + i, reference);
              expected.set(run.first + i, reference);
            }
          }
        }
        await tree.clear(now, FANOUT ** (rootLevel(now * GRANULE) + 1) - now);
        const image = { size: now * GRANULE, root: await tree.finish() };
        expect(await granulesOf(nodes.map(image))).toEqual(expected);
        expect(compaction.next).toBe(0);
        const packs = await packsOf(nodes, image);
        expect([...packs].filter((pack) => sparse.has(pack))).toEqual([]);
        left += sparse.size;
      }),
      runs(150),
    );
    expect(left).toBeGreaterThan(100);
  });

  /** Runs over a disk all of which lies in sparse packs, until it was gone through: how many granules each takes, and where it goes on. */
  async function sweep(size: number, changedBytes: number, changed: readonly GranuleRun[] = []): Promise<(readonly [number, number])[]> {
    const nodes = new NodeStore();
    const base = await build(
      nodes,
      size,
      Array.from({ length: size }, (_, i) => (i + 0.5) / size),
    );
    const packs = await packsOf(nodes, base);
    const steps: (readonly [number, number])[] = [];
    let from = 0;
    do {
      const compaction = new Compaction({ packs, from, changedBytes });
      let taken = 0;
      for await (const { kind } of compaction.amid(each(changed), { base: nodes.map(base), end: size }))
        taken += kind === "granule" ? 1 : 0;
      from = compaction.next;
      steps.push([taken, from]);
    } while (from !== 0);
    return steps;
  }

  test("is taken in pieces of 256 MiB, one in each run", async () => {
    expect(await sweep(2 * FLOOR + 100, 0)).toEqual([
      [FLOOR, FLOOR],
      [FLOOR, 2 * FLOOR],
      [100, 0],
    ]);
  });

  test("is taken in pieces as large as what changed, where that is more; what changed itself is no part of them", async () => {
    const changed = [{ kind: "data" as const, first: 10, count: 2 * FLOOR, parts: null }];
    expect(await sweep(4 * FLOOR + 100, 2 * FLOOR * GRANULE, changed)).toEqual([
      [2 * FLOOR, 4 * FLOOR],
      [100, 0],
    ]);
  });

  test("is looked for in a part of the map at a time", async () => {
    const nodes = new NodeStore();
    const size = 300_000;
    // A granule in every node.
    const base = await build(
      nodes,
      size,
      Array.from({ length: size / 32 }, (_, i) => (i * 32 + 1.5) / size),
    );
    const places: number[] = [];
    let from = 0;
    do {
      const compaction = new Compaction({ packs: new Set(["none"]), from, changedBytes: 0 });
      for await (const _ of compaction.amid(each([]), { base: nodes.map(base), end: size })) throw new Error("nothing is sparse");
      places.push((from = compaction.next));
    } while (from !== 0);
    expect(places).toHaveLength(2);
    expect(places[0]).toBeGreaterThan(250_000);
    expect(places[0]).toBeLessThanOrEqual(8192 * 32);
  });
});
