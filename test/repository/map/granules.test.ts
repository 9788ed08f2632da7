import fc from "fast-check";
import { expect, test } from "vitest";

import type { Extent } from "../../../src/repository/disk-content.ts";
import { distrustFrom, type GranuleRun, granuleRuns } from "../../../src/repository/map/granules.ts";

const GRANULE = 65_536;
const UNIT = 4096;
const runs = (numRuns: number): { readonly numRuns: number } => ({ numRuns: process.env["SOAK"] === "1" ? numRuns * 50 : numRuns });

/** Lengths that often end on granule borders, often just beside them. */
const length = fc.oneof(
  fc.integer({ min: 1, max: 3 * GRANULE }),
  fc.integer({ min: 1, max: 40 }).map((n) => n * UNIT),
  fc.integer({ min: 1, max: 4 }).map((n) => n * GRANULE),
  fc.constantFrom(1, 511, 512, GRANULE - 1, GRANULE + 1, 1500 * GRANULE),
);
const state = fc.constantFrom("clean", "data", "zero") satisfies fc.Arbitrary<Extent["state"]>;
const partition = fc.array(fc.tuple(length, state), { maxLength: 30 }).map((parts) => {
  let offset = 0;
  return parts.map(([size, kind]): Extent => {
    const extent = { offset, length: size, state: kind };
    offset += size;
    return extent;
  });
});

async function* from(extents: readonly Extent[]): AsyncGenerator<Extent, void, undefined> {
  yield* extents;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const sizeOf = (extents: readonly Extent[]): number => extents.reduce((sum, extent) => sum + extent.length, 0);

interface Told {
  readonly kind: "data" | "zero";
  /** bytes */
  readonly read: number;
}

const isZero = ({ state: one }: Extent): boolean => one === "zero";

/** The naive model: for each granule, what the extents say of it. */
function model(extents: readonly Extent[]): ReadonlyMap<number, Told> {
  const granules = new Map<number, { states: Set<string>; read: number }>();
  for (const extent of extents) {
    const end = extent.offset + extent.length;
    for (let at = extent.offset; at < end; at = Math.min(end, at - (at % GRANULE) + GRANULE)) {
      const index = Math.floor(at / GRANULE);
      const granule = granules.get(index) ?? { states: new Set(), read: 0 };
      granule.states.add(extent.state);
      if (!isZero(extent)) granule.read += Math.min(end, (index + 1) * GRANULE) - at;
      granules.set(index, granule);
    }
  }
  const expected = new Map<number, Told>();
  for (const [index, { states, read }] of granules) {
    if (states.size === 1 && states.has("clean")) continue;
    const zero = !states.has("clean") && !states.has("data");
    expected.set(index, { kind: zero ? "zero" : "data", read });
  }
  return expected;
}

function bytesToRead(run: GranuleRun, granule: number, size: number): number {
  if (run.kind === "zero") return 0;
  if (run.parts === null) return Math.min(size, (granule + 1) * GRANULE) - granule * GRANULE;
  return run.parts.reduce((sum, part) => sum + part.length, 0);
}

test("any partition of a disk gives the granules a naive model gives, in order", async () => {
  await fc.assert(
    fc.asyncProperty(partition, async (extents) => {
      const size = sizeOf(extents);
      const given = new Map<number, Told>();
      let last = -1;
      for (const run of await collect(granuleRuns(from(extents), size))) {
        expect(run.first).toBeGreaterThan(last);
        expect(run.count).toBeGreaterThan(0);
        if (run.kind === "data") expect(run.count).toBeLessThanOrEqual(1024);
        for (const part of run.parts ?? []) {
          expect(run.count).toBe(1);
          expect(part.offset).toBeGreaterThanOrEqual(run.first * GRANULE);
          expect(part.offset + part.length).toBeLessThanOrEqual(Math.min(size, (run.first + 1) * GRANULE));
          const covered = extents.filter(
            (one) => !isZero(one) && one.offset < part.offset + part.length && part.offset < one.offset + one.length,
          );
          expect(covered.length).toBeGreaterThan(0);
        }
        for (let i = 0; i < run.count; i++) given.set(run.first + i, { kind: run.kind, read: bytesToRead(run, run.first + i, size) });
        last = run.first + run.count - 1;
      }
      expect(given).toEqual(model(extents));
    }),
    runs(400),
  );
});

test("a gap, an overlap, an empty extent or a wrong end is rejected", async () => {
  const spoil = fc.constantFrom("shift", "drop", "empty", "size");
  await fc.assert(
    fc.asyncProperty(
      partition.filter((extents) => extents.length > 1),
      spoil,
      fc.nat(),
      fc.integer({ min: 1, max: 5000 }).chain((n) => fc.constantFrom(n, -n)),
      async (extents, how, which, by) => {
        const i = which % extents.length;
        const one = extents[i] as Extent;
        const size = sizeOf(extents);
        let spoiled: readonly Extent[] = extents;
        if (how === "shift") spoiled = extents.with(i, { ...one, offset: one.offset + by });
        if (how === "drop") spoiled = extents.toSpliced(i, 1);
        if (how === "empty") spoiled = extents.toSpliced(i, 0, { ...one, length: 0 });
        const given = granuleRuns(from(spoiled), how === "size" ? Math.max(0, size + by) : size);
        await expect(collect(given)).rejects.toMatchObject({ code: "invalid" });
      },
    ),
    runs(300),
  );
});

test("from its limit on, distrusted extents are never clean, and nothing else changes", async () => {
  await fc.assert(
    fc.asyncProperty(partition, fc.double({ min: 0, max: 1.2, noNaN: true }), async (extents, share) => {
      const limit = Math.floor(share * sizeOf(extents));
      const given = await collect(distrustFrom(from(extents), limit));
      let at = 0;
      for (const extent of given) {
        expect(extent.offset).toBe(at);
        expect(extent.length).toBeGreaterThan(0);
        at += extent.length;
        const original = extents.find((one) => one.offset <= extent.offset && extent.offset < one.offset + one.length);
        const wasClean = original?.state === "clean";
        if (extent.state === "clean") expect(extent.offset + extent.length).toBeLessThanOrEqual(limit);
        else expect(extent.state).toBe(wasClean ? "data" : original?.state);
        if (wasClean && extent.state === "data") expect(extent.offset).toBeGreaterThanOrEqual(limit);
      }
      expect(at).toBe(sizeOf(extents));
    }),
    runs(300),
  );
});
