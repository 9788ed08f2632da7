import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NbdError } from "../../src/nbd/errors.ts";
import { commonExtents, ExtentMerger, type NbdExtent, type StatusEntries } from "../../src/nbd/extents.ts";

const pairs = (...values: number[]): StatusEntries => Float64Array.from(values);
const flagRuns = (maximum: number): fc.Arbitrary<{ length: number; flags: number }[]> =>
  fc.array(fc.record({ length: fc.integer({ min: 1, max: 40 }), flags: fc.integer({ min: 0, max: maximum }) }), {
    minLength: 1,
    maxLength: 30,
  });

function paint(runs: readonly { length: number; flags: number }[], size: number): number[] {
  const bytes = runs.flatMap((run) => Array<number>(run.length).fill(run.flags));
  return Array.from({ length: size }, (_unused, at) => bytes[at % bytes.length] ?? 0);
}

/** A server's context: runs of equal flags from `offset`, cut after `limit` entries. */
function answer(bytes: readonly number[], offset: number, limit: number): StatusEntries {
  const entries: number[] = [];
  for (let at = offset; at < bytes.length && entries.length < limit * 2;) {
    let end = at;
    while (end < bytes.length && bytes[end] === bytes[at]) end += 1;
    entries.push(end - at, bytes[at] ?? 0);
    at = end;
  }
  return pairs(...entries);
}

const expected = (allocation: number, dirty: number): string => (dirty === 0 ? "clean" : (allocation & 2) === 0 ? "data" : "zero");

describe("extents", () => {
  test("D3: contexts that cover different lengths never shift or lose a byte, however the server cuts its replies", () => {
    const limit = fc.integer({ min: 1, max: 5 });
    fc.assert(
      fc.property(
        flagRuns(3),
        flagRuns(1),
        fc.integer({ min: 1, max: 600 }),
        fc.tuple(limit, limit),
        (allocRuns, dirtyRuns, size, [a, d]) => {
          const allocation = paint(allocRuns, size);
          const dirty = paint(dirtyRuns, size);
          const merger = new ExtentMerger();
          const out: NbdExtent[] = [];
          for (let offset = 0; offset < size;) {
            const reply = { offset, size, allocation: answer(allocation, offset, a), dirty: answer(dirty, offset, d) };
            for (const extent of commonExtents(reply)) {
              offset = extent.offset + extent.length;
              out.push(...[merger.push(extent.offset, extent.length, extent.state)].filter((ended) => ended !== undefined));
            }
          }
          out.push(...[merger.flush()].filter((ended) => ended !== undefined));
          const states = out.flatMap((extent) => Array<string>(extent.length).fill(extent.state));
          expect(states).toEqual(allocation.map((flags, at) => expected(flags, dirty[at] ?? 0)));
          expect(out.every((extent, index) => index === 0 || extent.state !== out[index - 1]?.state)).toBe(true);
        },
      ),
    );
  });

  test("D1: dirty and zero is zero, never clean", () => {
    const reply = { offset: 0, size: 30, allocation: pairs(10, 3, 10, 2, 10, 0), dirty: pairs(30, 1) };
    expect([...commonExtents(reply)].map((extent) => extent.state)).toEqual(["zero", "zero", "data"]);
  });

  test("A34: what a disk has grown by is never clean", () => {
    const reply = { offset: 0, size: 40, allocation: pairs(30, 0, 10, 3), dirty: pairs(40, 0), cleanEnd: 20 };
    const states = [...commonExtents(reply)].map((extent) => [extent.length, extent.state]);
    expect(states).toEqual([
      [20, "clean"],
      [10, "data"],
      [10, "zero"],
    ]);
  });

  test("a hole that is not said to read as zeros is data", () => {
    expect([...commonExtents({ offset: 0, size: 10, allocation: pairs(10, 1), dirty: null })]).toEqual([
      { offset: 0, length: 10, state: "data" },
    ]);
  });

  test("a reply beyond the end of the device is cut there", () => {
    expect([...commonExtents({ offset: 5, size: 10, allocation: pairs(100, 0), dirty: null })]).toEqual([
      { offset: 5, length: 5, state: "data" },
    ]);
  });

  test("garbage ends in a typed error or a gapless list, nothing else", () => {
    const entries = fc.array(fc.oneof(fc.integer({ min: -3, max: 50 }), fc.double(), fc.constant(Number.NaN)), { maxLength: 12 });
    fc.assert(
      fc.property(entries, fc.option(entries), fc.nat(100), fc.nat(100), (allocation, dirty, offset, more) => {
        const reply = { offset, size: offset + more, allocation: pairs(...allocation), dirty: dirty === null ? null : pairs(...dirty) };
        let at = offset;
        try {
          for (const extent of commonExtents(reply)) {
            expect(extent.offset).toBe(at);
            expect(extent.length).toBeGreaterThan(0);
            at += extent.length;
          }
        } catch (error) {
          expect(error).toBeInstanceOf(NbdError);
          return;
        }
        expect(at).toBeGreaterThan(offset);
        expect(at).toBeLessThanOrEqual(offset + more);
      }),
    );
  });

  test("a gap between replies is an error", () => {
    const merger = new ExtentMerger();
    merger.push(0, 10, "data");
    expect(() => merger.push(11, 5, "data")).toThrow(/jumped from byte 10 to 11/);
  });
});
