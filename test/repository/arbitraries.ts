import { createHash } from "node:crypto";
import fc from "fast-check";

import { RepositoryError } from "../../src/repository/errors.ts";
import { Codec, FANOUT } from "../../src/repository/format/constants.ts";
import type { SparseRecord } from "../../src/repository/format/sparse.ts";
import { FormatError } from "../../src/repository/format/errors.ts";
import { type HintCandidate, MAX_CANDIDATES, MAX_SAMPLES } from "../../src/repository/format/hints.ts";
import type { MapNode } from "../../src/repository/format/node.ts";
import { CONSISTENCIES, LEVELS, type PointRecord } from "../../src/repository/format/point.ts";
import type { Reference } from "../../src/repository/format/reference.ts";

/** A way to spoil bytes; places are shares of the length, so that they shrink well and fit any input. */
export interface Mutation {
  readonly kind: "flip" | "truncate" | "extend" | "overwrite" | "remove";
  readonly at: number;
  readonly bit: number;
  readonly bytes: Uint8Array;
}

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

export const mutation: fc.Arbitrary<Mutation> = fc.record({
  kind: fc.constantFrom("flip", "truncate", "extend", "overwrite", "remove"),
  at: share,
  bit: fc.nat(7),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
});

/** The bytes spoiled; may by chance be the same bytes. */
export function mutate(bytes: Uint8Array, { kind, at, bit, bytes: other }: Mutation): Buffer {
  const copy = Buffer.from(bytes);
  const place = Math.floor(at * copy.length);
  switch (kind) {
    case "flip":
      if (copy.length > 0) copy[place] = (copy[place] ?? 0) ^ (1 << bit);
      return copy;
    case "truncate":
      return copy.subarray(0, place);
    case "extend":
      return Buffer.concat([copy, other]);
    case "overwrite":
      copy.set(other.subarray(0, copy.length - place), place);
      return copy;
    case "remove":
      break;
  }
  return Buffer.concat([copy.subarray(0, place), copy.subarray(place + other.length)]);
}

/** Runs a parser. A typed error counts as an answer, anything else thrown is a failure of the test. */
export function answerOf<T>(parse: () => T): T | FormatError | RepositoryError {
  try {
    return parse();
  } catch (thrown) {
    if (thrown instanceof FormatError || thrown instanceof RepositoryError) return thrown;
    throw thrown;
  }
}

export function isRefusal(answer: unknown): answer is FormatError | RepositoryError {
  return answer instanceof FormatError || answer instanceof RepositoryError;
}

/** 32 bytes that stand for a number. */
export function hashOf(what: string | number): Buffer {
  return createHash("sha256").update(String(what)).digest();
}

const packIds = fc.constantFrom(...Array.from({ length: 6 }, (_, i) => hashOf(`pack ${i}`).toString("hex", 0, 16)));
const hash = fc.nat().map(hashOf);

/** A reference that a node of that level may hold. */
export function reference(level = 0): fc.Arbitrary<Reference> {
  return fc.record({
    pack: packIds,
    offset: fc.nat(32 * 1024 * 1024),
    length: fc.integer({ min: 1, max: level === 0 ? 65_552 : 1944 }),
    codec: level === 0 ? fc.constantFrom(Codec.none, Codec.lz4, Codec.zstd) : fc.constant(Codec.none),
    hash,
  });
}

export const mapNode: fc.Arbitrary<MapNode> = fc
  .integer({ min: 0, max: 8 })
  .chain((level) =>
    fc
      .tuple(fc.array(fc.option(reference(level)), { minLength: FANOUT, maxLength: FANOUT }), fc.nat(FANOUT - 1), reference(level))
      .map(([children, at, one]) => ({ level, children: children.with(at, one) })),
  );

const text = fc.string({ unit: "grapheme", maxLength: 20 });
const count = fc.nat();
const stats = fc.record({
  dirtyBytes: count,
  zeroBytes: count,
  readBytes: count,
  newBytes: count,
  compactedBytes: count,
  uploadedBytes: count,
  mapBytes: count,
});
const disk = fc.record({
  name: text,
  size: fc.maxSafeNat(),
  level: fc.constantFrom(...LEVELS),
  reason: text,
  base: fc.option(text),
  checkpoint: fc.option(text),
  root: fc.option(reference()),
  imageInfo: fc.option(fc.dictionary(fc.string(), fc.string())),
  stats,
  compactedTo: count,
});
const piece = fc.tuple(reference(), fc.integer({ min: 0, max: 1024 * 1024 })).map(([one, textLength]) => ({ ...one, textLength }));
const capture = fc
  .tuple(text, fc.array(piece, { maxLength: 3 }))
  .map(([name, pieces]) => ({ name, pieces, size: pieces.reduce((sum, { textLength }) => sum + textLength, 0) }));

export const pointRecord: fc.Arbitrary<PointRecord> = fc.record({
  id: text,
  seq: fc.maxSafeNat(),
  time: text,
  vm: fc.record({ name: text, uuid: fc.option(text) }),
  run: text,
  parent: fc.option(text),
  level: fc.constantFrom(...LEVELS),
  consistency: fc.constantFrom(...CONSISTENCIES),
  tool: fc.record({ name: text, version: text }),
  disks: fc.array(disk, { maxLength: 4 }),
  captures: fc.array(capture, { maxLength: 3 }),
  warnings: fc.array(text, { maxLength: 3 }),
});

const sample = fc.record({ granule: fc.maxSafeNat(), hash });
const candidate = fc.record({ point: text, disk: text, samples: fc.array(sample, { maxLength: MAX_SAMPLES }) });
export const hints: fc.Arbitrary<HintCandidate[]> = fc.array(candidate, { maxLength: MAX_CANDIDATES });

/** Sparse packs by disk. */
export const sparse: fc.Arbitrary<SparseRecord> = fc
  .array(fc.tuple(text, fc.array(packIds, { maxLength: 5 })), { maxLength: 4 })
  .map((disks) => new Map(disks));

/** Puts `value` in the place of one value, anywhere in a JSON value. */
export function replaceSomewhere(json: unknown, at: readonly number[], value: unknown): unknown {
  const [step, ...rest] = at;
  if (step === undefined || typeof json !== "object" || json === null) return value;
  const entries = Object.entries(json);
  if (entries.length === 0) return value;
  const chosen = step % entries.length;
  const replaced = entries.map(([name, one], i): [string, unknown] => [name, i === chosen ? replaceSomewhere(one, rest, value) : one]);
  return Array.isArray(json) ? replaced.map(([, one]) => one) : Object.fromEntries(replaced);
}

/** Values that have tripped parsers before, and any others. */
export const awkward: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(null, -1, 0.5, 2 ** 53, Number.MAX_VALUE, "", "00", "zz".repeat(16), [], {}, true, { toString: 1, valueOf: 1 }, [
    { toString: 1 },
  ]),
  fc.constant(0).map(() => nested(10_000)),
  fc.jsonValue() as fc.Arbitrary<unknown>,
);

function nested(depth: number): unknown {
  let value: unknown = [];
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}
