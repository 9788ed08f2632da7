import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";

import { FormatError } from "../../src/repository/format/errors.ts";
import { FrameSealer } from "../../src/repository/format/frame.ts";
import { PackNumbers } from "../../src/repository/format/pack-numbers.ts";
import { decodePackLists, encodePackLists } from "../../src/repository/format/pack-lists.ts";
import type { Reference } from "../../src/repository/format/reference.ts";
import type { ImageRoot } from "../../src/repository/index.ts";
import { ImageMap } from "../../src/repository/map/image-map.ts";
import { NodeReader } from "../../src/repository/map/node-reader.ts";
import { PackUsage } from "../../src/repository/usage/pack-usage.ts";
import { followChange } from "../../src/repository/usage/walk.ts";
import type { Repository } from "../../src/repository/repository.ts";
import { newRepository } from "./harness.ts";
import { type Entry, writeLight } from "./light-writer.ts";

const GRANULE = 65_536;

function listed(numbers: PackNumbers): [string, number][] {
  return [...numbers.entries()].map(([pack, value]): [string, number] => [pack, value]).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** The same by other means: a walk over all nodes and all granules. */
async function counted({ store, domain, keys }: Repository, image: ImageRoot): Promise<PackUsage> {
  const usage = new PackUsage();
  const map = new ImageMap(new NodeReader({ store, domain, sealer: new FrameSealer(keys) }), image);
  const count = ({ pack, offset, length }: Reference): void => {
    usage.bytes.set(pack, usage.bytes.get(pack) + length);
    usage.ends.set(pack, Math.max(usage.ends.get(pack), offset + length));
  };
  for await (const reference of map.nodes()) count(reference);
  for await (const { reference } of map.granules()) count(reference);
  return usage;
}

const step = fc.record({
  // Sizes on both sides of a map's growth by one level: 2 MiB and 64 MiB.
  granules: fc.constantFrom(1, 20, 32, 33, 100, 1024, 1030, 2000),
  writes: fc.uniqueArray(fc.nat(2000), { maxLength: 20 }),
  zeros: fc.uniqueArray(fc.nat(2000), { maxLength: 10 }),
});

test("what an image uses, followed from one to the next, is what a walk over each of them finds", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 5 }), async (changes) => {
      const repository = await newRepository();
      const { store, domain, keys } = repository;
      const nodes = new NodeReader({ store, domain, sealer: new FrameSealer(keys) });
      const usage = new PackUsage();
      let before: ImageRoot | null = null;
      for (const { granules, writes, zeros } of changes) {
        const places = [...new Set([...writes, ...zeros])].filter((place) => place < granules).toSorted((a, b) => a - b);
        const after = await writeImage(repository, before, { granules, writes, places });
        await followChange(usage, { before, after }, nodes);
        const found = await counted(repository, after);
        expect(listed(usage.bytes)).toEqual(listed(found.bytes));
        // A pack that was needed further is no shorter for that.
        expect(listed(usage.ends).map(([pack]) => pack)).toEqual(listed(found.ends).map(([pack]) => pack));
        for (const [pack, end] of found.ends.entries()) expect(usage.ends.get(pack)).toBeGreaterThanOrEqual(end);
        before = after;
      }
    }),
    { numRuns: process.env["SOAK"] === "1" ? 500 : 25 },
  );
}, 300_000);

async function writeImage(
  repository: Repository,
  before: ImageRoot | null,
  { granules, writes, places }: { readonly granules: number; readonly writes: readonly number[]; readonly places: readonly number[] },
): Promise<ImageRoot> {
  const entries = places.filter((place) => writes.includes(place)).map((place): Entry => [place, randomBytes(GRANULE)]);
  // What lies beyond a disk that shrank is cut off by the writer of a disk; a light one has no such end, so it begins anew there.
  const base = before !== null && before.size <= granules * GRANULE ? before : null;
  return await writeLight(repository, base, { size: granules * GRANULE, entries });
}

const pack = fc.tuple(fc.constantFrom("a1".repeat(12), "00".repeat(12), "ff".repeat(12)), fc.nat(5000));
const numbers = fc.uniqueArray(fc.tuple(pack, fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })), {
  selector: ([[run, ordinal]]) => `${run}${ordinal}`,
  maxLength: 60,
});

function made(entries: readonly (readonly [readonly [string, number], number])[]): PackNumbers {
  const found = new PackNumbers();
  for (const [[run, ordinal], value] of entries) found.set(run + ordinal.toString(16).padStart(8, "0"), value);
  return found;
}

test("a list of packs reads as it was written, and one list has one text", () => {
  fc.assert(
    fc.property(numbers, (entries) => {
      const text = encodePackLists([made(entries), made(entries)]);
      expect(listed(decodePackLists(text, 2, "it")[0]!)).toEqual(listed(made(entries)));
      expect(encodePackLists([made(entries.toReversed()), made(entries)]).equals(text)).toBe(true);
    }),
  );
});

test("any other text is refused in words, and none is read as something else", () => {
  fc.assert(
    fc.property(numbers, fc.nat(), fc.integer({ min: 1, max: 255 }), (entries, place, change) => {
      const text = Buffer.from(encodePackLists([made(entries), made(entries)]));
      const at = place % text.length;
      text[at] = (text[at] ?? 0) ^ change;
      for (const bytes of [text, text.subarray(0, at), Buffer.concat([text, Buffer.alloc(1)])]) {
        try {
          expect(encodePackLists(decodePackLists(bytes, 2, "it")).equals(bytes)).toBe(true);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(FormatError);
        }
      }
    }),
    { numRuns: 2000 },
  );
});
