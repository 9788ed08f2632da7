import { randomBytes } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Packer, unpack } from "../../../src/repository/format/codec.ts";
import { Codec, DocumentKind, FrameKind } from "../../../src/repository/format/constants.ts";
import { openDocument, sealDocument } from "../../../src/repository/format/document.ts";
import { FrameSealer, type SealedFrame } from "../../../src/repository/format/frame.ts";
import { domainKeys } from "../../../src/repository/format/keys.ts";
import {
  decodePackTable,
  decodePackTrailer,
  encodePackTail,
  PACK_HEADER,
  PACK_TRAILER,
  packId,
  PackTable,
  packTailLength,
  runOfPack,
} from "../../../src/repository/format/pack.ts";
import { answerOf, hashOf, isRefusal, mutate, mutation } from "../arbitraries.ts";

const KEY = Buffer.alloc(32, 7);
const runs = (numRuns: number): { readonly numRuns: number } => ({ numRuns: process.env["SOAK"] === "1" ? numRuns * 50 : numRuns });
const codecs = fc.constantFrom(Codec.none, Codec.lz4, Codec.zstd);
/** Texts that compress and texts that do not. */
const texts = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 5000 }).map((array) => Buffer.from(array)),
  fc
    .tuple(fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 65_536 }))
    .map(([unit, length]) => Buffer.alloc(length, unit)),
);

describe.each([true, false])("encrypted: %s", (encrypted) => {
  const keys = domainKeys(KEY, Buffer.alloc(16, 1), encrypted);
  const runId = Buffer.alloc(12, 3);

  test("documents open as they were sealed, only under their name, kind and key, and never after a change", () => {
    fc.assert(
      fc.property(texts, mutation, (text, spoil) => {
        const seal = { kind: DocumentKind.point, key: KEY, at: "points/aa/0000000001", encrypted };
        const sealed = sealDocument(text, seal);
        expect(openDocument(sealed, seal).equals(text)).toBe(true);
        for (const wrong of [
          { at: "points/aa/0000000002" },
          { kind: DocumentKind.head },
          { key: randomBytes(32) },
          { encrypted: !encrypted },
        ])
          expect(answerOf(() => openDocument(sealed, { ...seal, ...wrong }))).toMatchObject({ code: "damaged" });
        const changed = mutate(sealed, spoil);
        if (!changed.equals(sealed)) expect(answerOf(() => openDocument(changed, seal))).toMatchObject({ code: "damaged" });
        expect(answerOf(() => openDocument(spoil.bytes, seal))).toMatchObject({ code: "damaged" });
      }),
      runs(300),
    );
  });

  test("every single flipped bit of a document is found", () => {
    const seal = { kind: DocumentKind.head, key: KEY, at: "heads/aa", encrypted };
    const sealed = sealDocument(Buffer.from('{"seq":12}'), seal);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(
        answerOf(() => openDocument(changed, seal)),
        `bit ${bit}`,
      ).toMatchObject({ code: "damaged" });
    }
  });

  test("frames open as they were sealed, and never as something else", () => {
    const sealer = new FrameSealer(keys);
    const kinds = fc.constantFrom(FrameKind.granule, FrameKind.node, FrameKind.capture);
    fc.assert(
      fc.property(texts, codecs, kinds, mutation, (text, codec, kind, spoil) => {
        const frame = sealer.seal(kind, text, { runId, codec });
        const stored = storedOf(frame);
        const options = { runId, codec: frame.codec, hash: frame.hash, textLength: text.length };
        expect(Buffer.from(sealer.open(kind, stored, options)).equals(text)).toBe(true);
        expect(Buffer.from(sealer.open(kind, stored, { ...options, into: Buffer.alloc(text.length) })).equals(text)).toBe(true);
        const changed = mutate(stored, spoil);
        const answer = answerOf(() => sealer.open(kind, changed, options));
        // A codec may write the same text in several ways; without a seal only the text counts, with one every bit does.
        if (isRefusal(answer)) expect(answer.code).toBe("damaged");
        else expect(encrypted ? changed.equals(stored) : Buffer.from(answer).equals(text)).toBe(true);
        for (const wrong of [{ hash: hashOf(1) }, { textLength: text.length + 1 }, { codec: 9 }, { codec: 255 }])
          expect(answerOf(() => sealer.open(kind, stored, { ...options, ...wrong }))).toMatchObject({ code: "damaged" });
        const other = kind === FrameKind.capture ? FrameKind.granule : FrameKind.capture;
        expect(answerOf(() => sealer.open(other, stored, options))).toMatchObject({ code: "damaged" });
      }),
      runs(400),
    );
  });

  test("pack tables: round trip, and no spoiled tail is read as another table", () => {
    const sealer = new FrameSealer(keys);
    const frames = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(frames, codecs, mutation, (lengths, codec, spoil) => {
        let offset = PACK_HEADER;
        const entries = lengths.map((length, i) => {
          const entry = { kind: FrameKind.granule, codec, offset, length, hash: hashOf(i) };
          offset += length;
          return entry;
        });
        const table = new PackTable();
        for (const entry of entries) table.add(entry);
        const tail = encodePackTail(table, offset, { sealer, runId });
        expect(tail.length).toBe(packTailLength(entries.length, sealer.overhead));
        const open = (bytes: Buffer, packLength: number): unknown => {
          const trailer = decodePackTrailer(bytes.subarray(-PACK_TRAILER), packLength);
          const from = trailer.tableOffset - (packLength - bytes.length);
          return decodePackTable(bytes.subarray(Math.max(0, from), Math.max(0, from) + trailer.tableLength), trailer, { sealer, runId });
        };
        expect(open(tail, offset + tail.length)).toEqual(entries);
        const changed = mutate(tail, spoil);
        const answer = answerOf(() => open(changed, offset + changed.length));
        if (!isRefusal(answer)) expect(answer).toEqual(entries);
        for (const length of [0, 1, 2 ** 26, 2 ** 40])
          expect(isRefusal(answerOf(() => decodePackTrailer(Buffer.from(spoil.bytes), length)))).toBe(true);
      }),
      runs(200),
    );
  });
});

test("what the packer packs unpacks, and spoiled packing is refused or has the length it must have", () => {
  const packer = new Packer();
  fc.assert(
    fc.property(texts, codecs, mutation, (text, wanted, spoil) => {
      const { codec, bytes } = packer.pack(text, wanted);
      const packed = Buffer.from(bytes);
      expect(packed.length).toBeLessThanOrEqual(text.length);
      expect(Buffer.from(unpack(packed, codec, text.length)).equals(text)).toBe(true);
      const answer = answerOf(() => unpack(mutate(packed, spoil), codec, text.length));
      if (!isRefusal(answer)) expect(answer.length).toBe(text.length);
      for (const other of [0, 1, 2, 3, 255]) answerOf(() => unpack(spoil.bytes, other, text.length));
    }),
    runs(500),
  );
});

test("a small frame that claims or holds gigabytes is refused without the memory for them", () => {
  const bomb = zstdCompressSync(Buffer.alloc(256 * 1024 * 1024));
  const claim = Buffer.alloc(100, 0xff);
  const before = process.resourceUsage().maxRSS;
  for (let i = 0; i < 50; i++) {
    expect(answerOf(() => unpack(bomb, Codec.zstd, 65_536))).toMatchObject({ code: "damaged" });
    expect(answerOf(() => unpack(claim, Codec.lz4, 65_536))).toMatchObject({ code: "damaged" });
  }
  const seal = { kind: DocumentKind.point, key: KEY, at: "points/x", encrypted: false };
  const big = Buffer.from(sealDocument(Buffer.alloc(1000), seal));
  big.writeUInt32LE(0xffff_ffff, 20);
  expect(answerOf(() => openDocument(big, seal))).toMatchObject({ code: "damaged" });
  expect(process.resourceUsage().maxRSS - before).toBeLessThan(64 * 1024);
});

test("a pack id names its run", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 12, maxLength: 12 }), fc.nat(), (run, ordinal) => {
      const id = packId(run, ordinal);
      expect(id).toMatch(/^[0-9a-f]{32}$/);
      expect(runOfPack(id).equals(run)).toBe(true);
    }),
  );
});

function storedOf({ stored }: SealedFrame): Buffer {
  return Buffer.concat(stored);
}
