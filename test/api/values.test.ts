import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cronMacros, cronPattern, durationMs, formatQuantity, quantityBytes } from "../../src/api/index.ts";

describe("durationMs", () => {
  test.each([
    ["0s", 0],
    ["90s", 90_000],
    ["1h30m", 5_400_000],
    ["24h", 86_400_000],
    ["8784h0m1s", 31_622_401_000],
  ])("%s", (written, expected) => expect(durationMs(written)).toBe(expected));

  test.each(["", "1d", "1.5h", "-1h", "1h 30m", "30m1h", "1ms", "h"])("refuses %j", (written) => {
    expect(() => durationMs(written)).toThrow("is not a duration");
  });

  test("adds up", () => {
    const part = fc.nat(999_999);
    fc.assert(
      fc.property(part, part, part, (h, m, s) => {
        expect(durationMs(`${h}h${m}m${s}s`)).toBe((h * 3600 + m * 60 + s) * 1000);
      }),
    );
  });
});

describe("quantityBytes", () => {
  test.each([
    ["400Mi", 400 * 2 ** 20],
    ["65536", 65_536],
    ["1.5G", 1_500_000_000],
    ["100k", 100_000],
    ["1e6", 1_000_000],
    ["1Ti", 2 ** 40],
    ["1500m", 2],
    [".5Ki", 512],
    ["12E2", 1200],
    ["1E", 1e18],
  ])("%s", (written, expected) => expect(quantityBytes(written)).toBe(expected));

  test.each(["", "x", "1 Mi", "400MB", "-1Mi", "1e", "."])("refuses %j", (written) => {
    expect(() => quantityBytes(written)).toThrow("is not a quantity");
  });

  test("reads what formatQuantity writes", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 50 }), (bytes) => {
        expect(quantityBytes(formatQuantity(bytes))).toBe(bytes);
      }),
    );
    expect([0, 1, 1024, 3 * 2 ** 30, 2 ** 30 + 2 ** 20].map(formatQuantity)).toEqual(["0", "1", "1Ki", "3Gi", "1025Mi"]);
  });
});

describe("cronPattern", () => {
  const pattern = new RegExp(cronPattern, "i");

  test("takes the fields that every macro stands for", () => {
    expect(Object.values(cronMacros).filter((fields) => !pattern.test(fields))).toEqual([]);
  });

  test("takes every number of a field and none beyond", () => {
    const ranges = [
      [0, 59],
      [0, 23],
      [1, 31],
      [1, 12],
      [0, 7],
    ] as const;
    ranges.forEach(([least, most], place) => {
      for (let value = 0; value < 100; value += 1) {
        const fields = ranges.map((_, i) => (i === place ? String(value) : "*")).join(" ");
        expect(pattern.test(fields), fields).toBe(value >= least && value <= most);
      }
    });
  });
});
