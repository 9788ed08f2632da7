import fc from "fast-check";
import { expect, test } from "vitest";

import { planFetches } from "../../../src/repository/read/fetch-plan.ts";
import { reference } from "../arbitraries.ts";

const runs = (numRuns: number): { readonly numRuns: number } => ({ numRuns: process.env["SOAK"] === "1" ? numRuns * 50 : numRuns });
/** Frames as packs hold them, back to back with some left out, and frames anywhere, which may overlap. */
const neighbours = fc.array(fc.tuple(fc.integer({ min: 1, max: 65_552 }), fc.boolean(), fc.nat(2)), { maxLength: 128 }).map((frames) => {
  const ends = [32, 32, 32];
  return frames.flatMap(([length, wanted, pack]) => {
    const offset = ends[pack] ?? 32;
    ends[pack] = offset + length;
    const one = { pack: String(pack).repeat(32), offset, length, codec: 0, hash: Buffer.alloc(32) };
    return wanted ? [one] : [];
  });
});
const shuffled = neighbours.chain((all) => fc.shuffledSubarray(all, { minLength: all.length, maxLength: all.length }));
const anywhere = fc.array(reference(), { maxLength: 128 });

test("every frame lies inside its fetch, fetches do not overlap in the window, and the window is bounded", () => {
  fc.assert(
    fc.property(fc.oneof(neighbours, shuffled, anywhere), fc.nat(100_000), (references, gap) => {
      const { fetches, places, length } = planFetches(references, gap);
      let end = 0;
      for (const fetch of fetches) {
        expect(fetch.at).toBe(end);
        expect(fetch.length).toBeGreaterThan(0);
        end += fetch.length;
      }
      expect(length).toBe(end);
      expect(places).toHaveLength(references.length);
      for (const [i, { offset, length: stored, pack }] of references.entries()) {
        const place = places[i] as { at: number; fetch: number };
        const fetch = fetches[place.fetch] as (typeof fetches)[number];
        expect(fetch.pack).toBe(pack);
        expect(place.at - fetch.at).toBe(offset - fetch.offset);
        expect(place.at).toBeGreaterThanOrEqual(fetch.at);
        expect(place.at + stored).toBeLessThanOrEqual(fetch.at + fetch.length);
      }
      const wanted = references.reduce((sum, one) => sum + one.length, 0);
      expect(length).toBeLessThanOrEqual(wanted + gap * Math.max(0, references.length - fetches.length));
    }),
    runs(500),
  );
});

test("frames that follow each other come with one request, frames far apart with one each", () => {
  const frame = (offset: number): { pack: string; offset: number; length: number; codec: number; hash: Buffer } => ({
    pack: "00".repeat(16),
    offset,
    length: 1000,
    codec: 0,
    hash: Buffer.alloc(32),
  });
  expect(planFetches([3000, 1000, 2000].map(frame)).fetches).toHaveLength(1);
  expect(planFetches([0, 10_000_000].map(frame)).fetches).toHaveLength(2);
});
