import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatBytes, parseBytes } from "../../src/lib/bytes.ts";
import { InvalidValueError } from "../../src/lib/invalid-value.ts";

describe("formatBytes", () => {
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [65536, "64 KiB"],
    [1.5 * 1024 ** 3, "1.5 GiB"],
    [1024 ** 4 - 1, "1 TiB"],
    [64 * 1024 ** 4, "64 TiB"],
    [3 * 1024 ** 5, "3 PiB"],
    [1024 ** 2 + 1, "1 MiB"],
  ])("%d is %s", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe("parseBytes", () => {
  test.each([
    ["0", 0],
    ["65536", 65536],
    ["64k", 65536],
    ["64 KiB", 65536],
    ["1.5GiB", 1.5 * 1024 ** 3],
    ["10MB", 10_000_000],
    [" 2t ", 2 * 1024 ** 4],
  ])("%s is %d", (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  test.each(["", "k", "-1", "1.5", "0.3k", "1e9", "1 000", "12 parsecs", "9999999P", "1.", "NaN", "0x10"])("refuses %j", (text) => {
    expect(() => parseBytes(text)).toThrow(InvalidValueError);
  });

  test("reads back every whole number of units it writes, and throws nothing untyped", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1023 }), fc.constantFrom(1, 1024, 1024 ** 2, 1024 ** 3, 1024 ** 4), (count, unit) => {
        expect(parseBytes(formatBytes(count * unit))).toBe(count * unit);
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          expect(Number.isSafeInteger(parseBytes(text))).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidValueError);
        }
      }),
    );
  });
});
