import fc from "fast-check";
import { expect, test } from "vitest";

import { rootLevel } from "../../../src/repository/format/node.ts";
import type { Reference } from "../../../src/repository/format/reference.ts";
import type { ImageRoot } from "../../../src/repository/map/image-map.ts";
import { TreeBuilder } from "../../../src/repository/map/tree-builder.ts";
import { granuleAt, granulesOf, NodeStore } from "./node-store.ts";

const GRANULE = 65_536;
const FANOUT = 32;
const runs = (numRuns: number): { readonly numRuns: number } => ({ numRuns: process.env["SOAK"] === "1" ? numRuns * 20 : numRuns });

/** Sizes in granules around the spans of levels 0 to 3. */
const sizes = fc
  .tuple(fc.constantFrom(1, 32, 1024, 32_768, 500_000), fc.integer({ min: -40, max: 40 }))
  .map(([near, by]) => Math.max(1, near + by));
/** A place as a share of the disk, so that it fits any size; some cluster. */
const place = fc.oneof(
  fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  fc.integer({ min: 0, max: 99 }).map((n) => n / 1e5),
);
const change = fc.record({
  at: place,
  kind: fc.constantFrom("set", "unset", "clear", "same"),
  count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 3000 }), fc.constantFrom(32, 1024, 32_768)),
  value: fc.nat(50_000),
});
const round = fc.record({
  size: sizes,
  fromScratch: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  changes: fc.array(change, { maxLength: 25 }),
});

interface Change {
  readonly at: number;
  readonly kind: "set" | "unset" | "clear" | "same";
  readonly count: number;
  readonly value: number;
}

/** Applies changes in ascending order, as a backup does, to a tree and to a Map at once. */
async function apply(
  tree: TreeBuilder,
  model: Map<number, Reference>,
  disk: { readonly changes: readonly Change[]; readonly granules: number },
): Promise<Set<number>> {
  const touched = new Set<number>();
  let next = 0;
  const { granules } = disk;
  for (const { at, kind, count, value } of disk.changes.toSorted((a, b) => a.at - b.at)) {
    const granule = Math.max(next, Math.floor(at * granules));
    if (granule >= granules) break;
    if (kind === "clear") {
      const length = Math.min(count, granules - granule);
      await tree.clear(granule, length);
      for (const known of model.keys()) if (known >= granule && known < granule + length && model.delete(known)) touched.add(known);
      next = granule + length;
      continue;
    }
    const reference = kind === "set" ? granuleAt(value) : kind === "unset" ? null : (model.get(granule) ?? null);
    const before = model.get(granule) ?? null;
    if (before?.pack !== reference?.pack || before?.offset !== reference?.offset) touched.add(granule);
    await tree.set(granule, reference);
    if (reference === null) model.delete(granule);
    else model.set(granule, reference);
    next = granule + 1;
  }
  // What a backup does last: nothing is left beyond the end of the disk.
  await tree.clear(granules, FANOUT ** (rootLevel(granules * GRANULE) + 1) - granules);
  return touched;
}

/** Most nodes that changes at these granules can cost: those on the paths to them. */
function pathsTo(touched: ReadonlySet<number>, level: number): number {
  let nodes = 0;
  for (let i = 0; i <= level; i++) nodes += new Set([...touched].map((granule) => Math.floor(granule / FANOUT ** (i + 1)))).size;
  return nodes;
}

test("after any changes and any sizes a map holds what a plain Map holds, and only changed paths are written", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 6 }), async (rounds) => {
      const nodes = new NodeStore();
      let image: ImageRoot | null = null;
      let model = new Map<number, Reference>();
      const history: { readonly image: ImageRoot; readonly model: Map<number, Reference> }[] = [];
      for (const { size, fromScratch, changes } of rounds) {
        const base: ImageRoot | null = fromScratch ? null : image;
        model = new Map(base === null ? [] : [...model].filter(([granule]) => granule < size));
        const before = nodes.written;
        const tree = await TreeBuilder.start(size * GRANULE, base, { nodes: nodes.reader(), write: nodes.write });
        const touched = await apply(tree, model, { changes, granules: size });
        image = { size: size * GRANULE, root: await tree.finish() };
        const sameSize = base?.size === image.size;
        if (sameSize) expect(nodes.written - before).toBeLessThanOrEqual(pathsTo(touched, rootLevel(image.size)));
        if (sameSize && touched.size === 0) expect(image.root).toEqual(base.root);
        if (model.size === 0) expect(image.root).toBe(null);
        history.push({ image, model: new Map(model) });
      }
      // Older maps are untouched by newer ones.
      for (const one of history) expect(await granulesOf(nodes.map(one.image))).toEqual(one.model);
    }),
    runs(150),
  );
});

test("look-ups and the search for the first granule agree with a plain Map, in order and at random", async () => {
  await fc.assert(
    fc.asyncProperty(round, fc.array(place, { maxLength: 60 }), async ({ size, changes }, places) => {
      const nodes = new NodeStore();
      const model = new Map<number, Reference>();
      const tree = await TreeBuilder.start(size * GRANULE, null, { nodes: nodes.reader(), write: nodes.write });
      await apply(tree, model, { changes, granules: size });
      const map = nodes.map({ size: size * GRANULE, root: await tree.finish() });
      const asked = [...model.keys(), ...places.map((at) => Math.floor(at * size * 1.1))];
      const inOrder = [...model.keys()].toSorted((a, b) => a - b);
      for (const granule of [...asked, ...inOrder]) {
        expect(await map.lookup(granule)).toEqual(model.get(granule) ?? null);
        const first = inOrder.find((one) => one >= granule);
        expect(await map.firstFrom(granule)).toEqual(first === undefined ? null : { granule: first, reference: model.get(first) });
      }
    }),
    runs(100),
  );
});

test("a missing node costs the disk below it and nothing else", async () => {
  const nodes = new NodeStore();
  const size = 3000;
  const tree = await TreeBuilder.start(size * GRANULE, null, { nodes: nodes.reader(), write: nodes.write });
  for (let granule = 0; granule < size; granule += 7) await tree.set(granule, granuleAt(granule));
  const image = { size: size * GRANULE, root: await tree.finish() };
  const all = await granulesOf(nodes.map(image));
  expect(nodes.written).toBe(94 + 3 + 1);
  for await (const { key } of nodes.store.list("packs/")) {
    const bytes = await nodes.store.get(key);
    await nodes.store.delete(key);
    await expect(granulesOf(nodes.map(image))).rejects.toMatchObject({ code: "not-found" });
    const lost: { readonly first: number; readonly count: number }[] = [];
    const left = new Map<number, Reference>();
    for await (const { granule, reference } of nodes.map(image).granules((range) => lost.push(range))) left.set(granule, reference);
    expect(lost).toHaveLength(1);
    const { first, count } = lost[0] as { first: number; count: number };
    expect(left).toEqual(new Map([...all].filter(([granule]) => granule < first || granule >= first + count)));
    await nodes.store.put(key, bytes);
  }
});
