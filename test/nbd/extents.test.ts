import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NbdError } from "../../src/nbd/errors.ts";
import {
  type ByteRange,
  deviceExtents,
  DIRTY_FLAG,
  type NbdExtent,
  replyRuns,
  RunMerger,
  type StatusEntries,
  type StatusRun,
  ZERO_FLAG,
} from "../../src/nbd/extents.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const pairs = (...values: number[]): StatusEntries => Float64Array.from(values);
const flagRuns = (maximum: number, unit: number): fc.Arbitrary<{ length: number; flags: number }[]> =>
  fc.array(fc.record({ length: fc.integer({ min: 1, max: 40 }).map((n) => n * unit), flags: fc.integer({ min: 0, max: maximum }) }), {
    minLength: 1,
    maxLength: 30,
  });

type Runs = readonly { readonly length: number; readonly flags: number }[];

/** What a server that gives at most `limit` entries in one reply says of a context from `offset` on. */
function answer(runs: Runs, offset: number, limit: number): StatusEntries {
  const entries: number[] = [];
  let start = 0;
  for (const { length, flags } of runs) {
    const end = start + length;
    if (end > offset && entries.length < limit * 2) entries.push(end - Math.max(start, offset), flags);
    start = end;
  }
  return pairs(...entries);
}

/** A context as `deviceExtents` asks for it, out of replies cut after so many entries. */
function context(runs: Runs, mask: number, limit: number): (range: ByteRange) => AsyncGenerator<StatusRun> {
  return async function* ({ offset, length }) {
    await Promise.resolve();
    const merger = new RunMerger();
    const end = offset + length;
    for (let at = offset; at < end;) {
      for (const run of replyRuns({ offset: at, end, entries: answer(runs, at, limit), context: "c", mask })) {
        at = run.offset + run.length;
        const ended = merger.push(run);
        if (ended !== undefined) yield ended;
      }
    }
    const rest = merger.flush();
    if (rest !== undefined) yield rest;
  };
}

async function collect(source: AsyncIterable<NbdExtent>): Promise<NbdExtent[]> {
  const all: NbdExtent[] = [];
  for await (const extent of source) all.push(extent);
  return all;
}

const flagsAt = (runs: Runs, offset: number): number => {
  let end = 0;
  for (const run of runs) if ((end += run.length) > offset) return run.flags;
  return 0;
};
const sizeOf = (runs: Runs): number => runs.reduce((sum, { length }) => sum + length, 0);
/** `runs`, made as long as `size`. */
const stretched = (runs: Runs, size: number): Runs => [...runs, { length: Math.max(0, size - sizeOf(runs)) + 1, flags: 0 }];

describe("extents", () => {
  test("D3: two contexts never shift or lose a byte, however the server cuts its replies", async () => {
    const limit = fc.integer({ min: 1, max: 5 });
    await fc.assert(
      fc.asyncProperty(
        flagRuns(3, 64 * KiB),
        flagRuns(1, 96 * KiB),
        fc.integer({ min: 1, max: 1200 }).map((n) => n * 48 * KiB),
        fc.tuple(limit, limit, fc.integer({ min: 0, max: 1200 }), fc.integer({ min: 0, max: 1200 })),
        async (allocRuns, dirtyRuns, size, [a, d, clean, skip]) => {
          const start = (skip % (size / (48 * KiB))) * 48 * KiB;
          const range = { offset: start, length: size - start };
          const [allocation, dirty] = [stretched(allocRuns, size), stretched(dirtyRuns, size)];
          const cleanEnd = clean * 48 * KiB;
          const contexts = { allocation: context(allocation, ZERO_FLAG, a), dirty: context(dirty, DIRTY_FLAG, d) };
          let at = start;
          for (const { offset, length, state } of await collect(deviceExtents({ range, cleanEnd, ...contexts }))) {
            expect(offset).toBe(at);
            at += length;
            for (let probe = offset; probe < at; probe += 16 * KiB) {
              const isDirty = probe >= cleanEnd || (flagsAt(dirty, probe) & DIRTY_FLAG) !== 0;
              const isZero = (flagsAt(allocation, probe) & ZERO_FLAG) !== 0;
              expect(state === "clean").toBe(!isDirty);
              // A zero may be called data, which costs a read; data must never be called zero.
              if (state === "zero") expect(isZero).toBe(true);
              else if (isDirty && length >= MiB) expect(isZero).toBe(false);
            }
          }
          expect(at).toBe(size);
        },
      ),
    );
  });

  test("D1: dirty and zero is never clean; long runs are known as zeros, short ones are read", async () => {
    const allocation = context([{ length: 64 * MiB, flags: 3 }], ZERO_FLAG, 9);
    const dirtyRuns = [MiB, 64 * KiB, MiB, 8 * MiB].map((length, i) => ({ length, flags: i % 2 }));
    const size = sizeOf(dirtyRuns);
    const found = await collect(
      deviceExtents({
        range: { offset: 0, length: size },
        cleanEnd: size,
        allocation,
        dirty: context(dirtyRuns, DIRTY_FLAG, 9),
      }),
    );
    expect(found.map(({ length, state }) => [length, state])).toEqual([
      [MiB, "clean"],
      [64 * KiB, "data"],
      [MiB, "clean"],
      [8 * MiB, "zero"],
    ]);
  });

  test("A34: what a disk has grown by is never clean", async () => {
    const allocation = context(
      [
        { length: 30, flags: 0 },
        { length: 10, flags: 3 },
      ],
      ZERO_FLAG,
      9,
    );
    const dirty = context([{ length: 40, flags: 0 }], DIRTY_FLAG, 9);
    const found = await collect(deviceExtents({ range: { offset: 0, length: 40 }, cleanEnd: 20, allocation, dirty }));
    expect(found.map(({ length, state }) => [length, state])).toEqual([
      [20, "clean"],
      [10, "data"],
      [10, "zero"],
    ]);
  });

  test("a hole that is not said to read as zeros is data, and without a bitmap nothing is clean", async () => {
    const allocation = context([{ length: 10, flags: 1 }], ZERO_FLAG, 9);
    expect(await collect(deviceExtents({ range: { offset: 0, length: 10 }, cleanEnd: 10, allocation, dirty: null }))).toEqual([
      { offset: 0, length: 10, state: "data" },
    ]);
  });

  test("a reply beyond what was asked is cut there", () => {
    const reply = { offset: 5, end: 10, entries: pairs(100, 1), context: "c", mask: 1 };
    expect([...replyRuns(reply)]).toEqual([{ offset: 5, length: 5, flags: 1 }]);
  });

  test("garbage ends in a typed error or a gapless list, nothing else", () => {
    const entries = fc.array(fc.oneof(fc.integer({ min: -3, max: 50 }), fc.double(), fc.constant(Number.NaN)), { maxLength: 12 });
    fc.assert(
      fc.property(entries, fc.nat(100), fc.nat(100), (garbage, offset, more) => {
        let at = offset;
        try {
          for (const run of replyRuns({ offset, end: offset + more, entries: pairs(...garbage), context: "c", mask: 3 })) {
            expect(run.offset).toBe(at);
            expect(run.length).toBeGreaterThan(0);
            at += run.length;
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
    const merger = new RunMerger();
    merger.push({ offset: 0, length: 10, flags: 0 });
    expect(() => merger.push({ offset: 11, length: 5, flags: 0 })).toThrow(/jumped from byte 10 to 11/);
  });
});
