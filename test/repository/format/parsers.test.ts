import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";

import { decodeConfig, encodeConfig } from "../../../src/repository/format/config.ts";
import { FormatError } from "../../../src/repository/format/errors.ts";
import { decodeDestroyed, encodeDestroyed } from "../../../src/repository/format/domain.ts";
import { decodeHints, encodeHints, type HintCandidate, MAX_CANDIDATES, MAX_SAMPLES } from "../../../src/repository/format/hints.ts";
import { formatKeyFile, parseKeyFile } from "../../../src/repository/format/key-file.ts";
import { keyIdOf, NO_KEY } from "../../../src/repository/format/keys.ts";
import { decodeNode, encodeNode } from "../../../src/repository/format/node.ts";
import { decodePoint, encodePoint } from "../../../src/repository/format/point.ts";
import { referenceFromJson, referenceToJson } from "../../../src/repository/format/reference.ts";
import { decodeRotation, encodeRotation, openRotation } from "../../../src/repository/format/rotation.ts";
import { decodeSparse, encodeSparse } from "../../../src/repository/format/sparse.ts";
import { decodeSlot, encodeSlot, openSlot } from "../../../src/repository/format/slot.ts";
import { parsePointId, parsePointKey, pointAt, pointId } from "../../../src/repository/layout.ts";
import {
  answerOf,
  awkward,
  hints,
  isRefusal,
  mapNode,
  mutate,
  mutation,
  pointRecord,
  reference,
  replaceSomewhere,
  sparse,
} from "../arbitraries.ts";
import { resummed } from "../keys/rings.ts";

const KEY = Buffer.alloc(32, 7);
const runs = (numRuns: number): { readonly numRuns: number } => ({ numRuns: process.env["SOAK"] === "1" ? numRuns * 50 : numRuns });
const bytes = fc.uint8Array({ maxLength: 3000 }).map((array) => Buffer.from(array));
const path = fc.array(fc.nat(9), { maxLength: 5 });

test("map nodes: what is encoded decodes to the same", () => {
  fc.assert(
    fc.property(mapNode, (node) => {
      expect(decodeNode(encodeNode(node), node.level)).toEqual(node);
    }),
    runs(300),
  );
});

test("map nodes: every byte sequence is refused with a typed error or is exactly what encoding gives", () => {
  const spoiled = fc
    .tuple(mapNode, fc.array(mutation, { minLength: 1, maxLength: 3 }))
    .map(([node, all]) => all.reduce(mutate, encodeNode(node)));
  let accepted = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 1, arbitrary: bytes }, { weight: 5, arbitrary: spoiled }), fc.nat(9), (input, other) => {
      for (const level of [input[0] ?? 0, other]) {
        const node = answerOf(() => decodeNode(input, level));
        if (isRefusal(node)) continue;
        accepted++;
        expect(encodeNode(node).equals(input)).toBe(true);
      }
    }),
    runs(2000),
  );
  // Flips inside an offset or a hash are for the seal to find: the property is not empty.
  expect(accepted).toBeGreaterThan(10);
});

test("references: JSON round trip, and any JSON is a reference within bounds or refused", () => {
  fc.assert(
    fc.property(reference(), path, awkward, (one, at, value) => {
      expect(referenceFromJson(JSON.parse(JSON.stringify(referenceToJson(one))), "it")).toEqual(one);
      const answer = answerOf(() => referenceFromJson(replaceSomewhere(referenceToJson(one), at, value), "it"));
      if (!isRefusal(answer)) expect(answer.offset + answer.length).toBeLessThanOrEqual(64 * 1024 * 1024);
    }),
    runs(500),
  );
});

test("points: what is encoded decodes to the same", () => {
  fc.assert(
    fc.property(pointRecord, (point) => {
      expect(decodePoint(encodePoint(point))).toEqual(point);
    }),
    runs(200),
  );
});

test("points: spoiled JSON and spoiled bytes are refused with a typed error or read as a point", () => {
  fc.assert(
    fc.property(pointRecord, path, awkward, mutation, (point, at, value, spoil) => {
      const encoded = encodePoint(point);
      for (const input of [Buffer.from(JSON.stringify(tryReplace(encoded, at, value))), mutate(encoded, spoil), Buffer.from(spoil.bytes)]) {
        const answer = answerOf(() => decodePoint(input));
        if (!isRefusal(answer)) expect(decodePoint(encodePoint(answer))).toEqual(answer);
      }
    }),
    runs(300),
  );
});

test("hints: what is encoded decodes to the same, as far as hints go", () => {
  fc.assert(
    fc.property(hints, (some) => {
      expect(decodeHints(encodeHints(some))).toEqual(some);
    }),
    runs(200),
  );
  const sample = { granule: 1, hash: Buffer.alloc(32, 1) };
  const one: HintCandidate = { point: "p", disk: "d", samples: Array.from({ length: MAX_SAMPLES + 1 }, () => sample) };
  const kept = decodeHints(encodeHints(Array.from({ length: MAX_CANDIDATES + 1 }, () => one)));
  expect([kept.length, kept[0]?.samples.length]).toEqual([MAX_CANDIDATES, MAX_SAMPLES]);
});

test("sparse packs: what is encoded decodes to the same, of each disk its share where they are too many", () => {
  fc.assert(
    fc.property(sparse, (some) => {
      expect(decodeSparse(encodeSparse(some))).toEqual(some);
    }),
    runs(200),
  );
  const packs = Array.from({ length: 20_000 }, (_, i) => i.toString(16).padStart(32, "0"));
  const kept = decodeSparse(
    encodeSparse(
      new Map([
        ["vda", packs],
        ["vdb", packs],
      ]),
    ),
  );
  expect([...kept.values()].map((ids) => ids.length)).toEqual([8192, 8192]);
  const long = decodeSparse(Buffer.from(JSON.stringify({ disks: ["vda", "vdb"].map((disk) => ({ disk, packs })) })));
  expect([...long.values()].map((ids) => ids.length)).toEqual([16_384, 0]);
});

test("sparse packs: spoiled JSON and spoiled bytes are refused with a typed error or read as some", () => {
  let [accepted, refused] = [0, 0];
  fc.assert(
    fc.property(sparse, path, awkward, mutation, (some, at, value, spoil) => {
      const encoded = encodeSparse(some);
      for (const input of [Buffer.from(JSON.stringify(tryReplace(encoded, at, value))), mutate(encoded, spoil), Buffer.from(spoil.bytes)]) {
        const answer = answerOf(() => decodeSparse(input));
        if (isRefusal(answer)) {
          refused++;
          continue;
        }
        accepted++;
        expect([...answer.values()].flat().every((pack) => /^[0-9a-f]{32}$/.test(pack))).toBe(true);
        expect(decodeSparse(encodeSparse(answer))).toEqual(answer);
      }
    }),
    runs(500),
  );
  expect(Math.min(accepted, refused)).toBeGreaterThan(10);
});

test("hints: spoiled JSON and spoiled bytes are refused with a typed error or read as hints within bounds", () => {
  let [accepted, refused] = [0, 0];
  fc.assert(
    fc.property(hints, path, awkward, mutation, (some, at, value, spoil) => {
      const encoded = encodeHints(some);
      for (const input of [Buffer.from(JSON.stringify(tryReplace(encoded, at, value))), mutate(encoded, spoil), Buffer.from(spoil.bytes)]) {
        const answer = answerOf(() => decodeHints(input));
        if (isRefusal(answer)) {
          refused++;
          continue;
        }
        accepted++;
        expect(decodeHints(encodeHints(answer))).toEqual(answer);
        expect(answer.every(({ samples }) => samples.every(({ hash }) => hash.length === 32))).toBe(true);
      }
    }),
    runs(500),
  );
  expect(Math.min(accepted, refused)).toBeGreaterThan(10);
});

/** Deeply nested values cannot be turned into text again; they are tried with the other parsers. */
function tryReplace(encoded: Buffer, at: readonly number[], value: unknown): unknown {
  const replaced = replaceSomewhere(JSON.parse(encoded.toString()), at, value);
  try {
    JSON.stringify(replaced);
    return replaced;
  } catch {
    return replaceSomewhere(JSON.parse(encoded.toString()), at, "deep");
  }
}

test.each([
  ["encrypted", KEY, KEY],
  ["plain", NO_KEY, null],
])("config of an %s repository: no change goes unnoticed, and only typed errors come out", (_name, sealKey, openKey) => {
  const id = randomBytes(16);
  const encoded = encodeConfig({ version: 1, id, created: "2026-01-02T03:04:05.000Z", encrypted: openKey !== null }, sealKey);
  const original = decodeConfig(encoded, openKey);
  expect(original).toEqual({ version: 1, id, created: "2026-01-02T03:04:05.000Z", encrypted: openKey !== null });
  fc.assert(
    fc.property(mutation, path, awkward, (spoil, at, value) => {
      const json = replaceSomewhere(JSON.parse(encoded.toString()), at, "PLACE");
      const deep = Buffer.from(JSON.stringify(json).replace('"PLACE"', flat(value)));
      for (const input of [mutate(encoded, spoil), deep, Buffer.from(spoil.bytes)]) {
        const answer = answerOf(() => decodeConfig(input, openKey));
        // White space may change; what the config says may not.
        if (!isRefusal(answer)) expect(answer).toEqual(original);
      }
    }),
    runs(300),
  );
});

function flat(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "null";
  } catch {
    return `${"[".repeat(20_000)}${"]".repeat(20_000)}`;
  }
}

test("config: a newer version or an unknown feature is refused as newer, whatever stands there", () => {
  const encoded = encodeConfig({ version: 1, id: randomBytes(16), created: "", encrypted: true }, KEY).toString();
  for (const [from, to] of [
    ['"version": 1', '"version": 2'],
    ['"version": 1', '"version": {"toString":1,"valueOf":1}'],
    ['"granule": 65536', '"granule": 4096'],
    ['"hash": "blake3-256-keyed"', '"hash": "sha-256"'],
    ['"features": []', '"features": ["lasers"]'],
    ['"features": []', '"features": [{"toString":1,"valueOf":1},null]'],
    ['"features": []', `"features": [${"[".repeat(20_000)}${"]".repeat(20_000)}]`],
  ] as const) {
    expect(encoded).toContain(from);
    expect(() => decodeConfig(Buffer.from(encoded.replace(from, to)), KEY)).toThrow(expect.objectContaining({ code: "newer-format" }));
  }
});

test("key files: round trip; any other text is refused and never quoted", () => {
  const key = randomBytes(32);
  const line = formatKeyFile(key);
  expect(parseKeyFile(line).equals(key)).toBe(true);
  expect(parseKeyFile(line.trimEnd()).equals(key)).toBe(true);
  fc.assert(
    fc.property(mutation, fc.string(), (spoil, text) => {
      for (const input of [mutate(Buffer.from(line), spoil).toString("latin1"), text]) {
        const answer = answerOf(() => parseKeyFile(input));
        if (isRefusal(answer)) expect(`${answer.message}${answer.hint ?? ""}`).not.toContain(key.toString("hex", 4, 16));
        else expect(answer.equals(key)).toBe(true);
      }
    }),
    runs(1000),
  );
});

test("tombstones of domains: round trip; anything else is refused with a typed error, or read as one within bounds", () => {
  const vms = fc.array(fc.string({ unit: fc.constantFrom(..."0123456789abcdef".split("")), minLength: 12, maxLength: 12 }), {
    maxLength: 5,
  });
  let [accepted, refused] = [0, 0];
  fc.assert(
    fc.property(vms, path, awkward, mutation, (machines, at, value, spoil) => {
      const facts = { name: "blue", created: "2026-01-02T03:04:05.000Z", time: "2026-02-02T03:04:05.000Z", machines };
      const encoded = encodeDestroyed(facts);
      expect(decodeDestroyed(encoded, "destroyed/0")).toEqual(facts);
      for (const input of [Buffer.from(JSON.stringify(tryReplace(encoded, at, value))), mutate(encoded, spoil), Buffer.from(spoil.bytes)]) {
        const answer = answerOf(() => decodeDestroyed(input, "destroyed/0"));
        if (isRefusal(answer)) {
          refused++;
          continue;
        }
        accepted++;
        expect(answer.machines.every((vm) => /^[0-9a-f]{12}$/.test(vm))).toBe(true);
        expect(Number.isFinite(Date.parse(answer.time))).toBe(true);
      }
    }),
    runs(500),
  );
  expect(Math.min(accepted, refused)).toBeGreaterThan(10);
});

test("point ids and keys: round trip; any other text is no point", () => {
  const vm = fc.string({ unit: fc.constantFrom(..."0123456789abcdef".split("")), minLength: 12, maxLength: 12 });
  fc.assert(
    fc.property(vm, fc.integer({ min: 1, max: 9_999_999_999 }), fc.string(), mutation, (vmId, seq, text, spoil) => {
      expect(parsePointId(pointId(vmId, seq))).toEqual({ vmId, seq });
      expect(parsePointKey(pointAt(vmId, seq))).toEqual({ vmId, seq });
      const id = mutate(Buffer.from(pointId(vmId, seq)), spoil).toString("latin1");
      for (const input of [text, id]) {
        const answer = answerOf(() => parsePointId(input));
        if (isRefusal(answer)) expect(answer.code).toBe("point-unknown");
        else expect(pointId(answer.vmId, answer.seq)).toBe(input);
      }
      const place = parsePointKey(mutate(Buffer.from(pointAt(vmId, seq)), spoil).toString("latin1"));
      if (place !== null) expect(place.vmId).toMatch(/^[0-9a-f]{12}$/);
    }),
    runs(500),
  );
});

test("deeply nested JSON in a config is refused, not followed", () => {
  const encoded = encodeConfig({ version: 1, id: randomBytes(16), created: "", encrypted: true }, KEY).toString();
  const deep = encoded.replace('"hash"', `"more": ${"[".repeat(30_000)}${"]".repeat(30_000)}, "hash"`);
  expect(() => decodeConfig(Buffer.from(deep), KEY)).toThrow(FormatError);
});

test.each([["slot", "slots/"] as const, ["rotation", "rotations/0001"] as const])(
  "a spoiled %s is refused with a typed error or is the same, whoever made its sum anew",
  (kind, at) => {
    const repositoryId = randomBytes(16);
    const wrapping = randomBytes(32);
    const id = keyIdOf(wrapping, repositoryId);
    const facts = {
      label: "x",
      created: "2026-01-02T03:04:05.000Z",
      opens: keyIdOf(KEY, repositoryId),
      way: { kind: "key-file" } as const,
    };
    const secrets = { first: KEY, previous: Buffer.alloc(32, 6), configMac: Buffer.alloc(32, 5) };
    const encoded =
      kind === "slot"
        ? encodeSlot(facts, repositoryId, { wrapping, key: KEY })
        : encodeRotation({ number: 1, time: "2026-01-02T03:04:05.000Z", repositoryId }, KEY, secrets);
    const opened = (input: Uint8Array): unknown =>
      kind === "slot"
        ? openSlot(decodeSlot(input, id, { at: at + id, repositoryId }), wrapping, repositoryId)
        : openRotation(decodeRotation(input, 1, { at, repositoryId }), KEY, repositoryId);
    const original = opened(encoded);
    expect(original).toEqual(kind === "slot" ? KEY : secrets);
    let accepted = 0;
    fc.assert(
      fc.property(mutation, path, awkward, (spoil, place, value) => {
        const json = replaceSomewhere(JSON.parse(encoded.toString()), place, "PLACE");
        const deep = Buffer.from(JSON.stringify(json).replace('"PLACE"', flat(value)));
        for (const input of [mutate(encoded, spoil), deep, summed(deep), Buffer.from(spoil.bytes)]) {
          const answer = answerOf(() => opened(input));
          if (isRefusal(answer)) continue;
          accepted++;
          expect(answer).toEqual(original);
        }
      }),
      runs(300),
    );
    expect(accepted).toBeLessThan(300);
  },
);

/** The bytes with a right sum, as far as they can have one. */
function summed(input: Buffer): Buffer {
  try {
    return resummed(input, (object) => object);
  } catch {
    return input;
  }
}
