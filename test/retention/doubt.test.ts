import { expect, test } from "vitest";

import { firstOutOfTime } from "../../src/retention/index.ts";

const NOW = new Date("2026-11-21T12:00:00Z");

test.each<[string, readonly string[], number | null]>([
  ["in order", ["2026-11-19T01:00Z", "2026-11-20T01:00Z", "2026-11-21T01:00Z"], null],
  ["no points", [], null],
  ["a clock a little behind", ["2026-11-20T01:30Z", "2026-11-20T01:00Z"], null],
  ["a little ahead of now", ["2026-11-21T12:59Z"], null],
  ["the newest in the future", ["2026-11-20T01:00Z", "2030-01-01T00:00Z"], 2],
  ["an earlier one in the future", ["2026-11-20T01:00Z", "2030-01-01T00:00Z", "2026-11-21T01:00Z"], 2],
  ["set back for good", ["2026-11-20T01:00Z", "2026-11-21T01:00Z", "2020-01-01T00:00Z"], 2],
  ["no time at all", ["nonsense", "2026-11-21T01:00Z"], 1],
])("%s", (_name, times, expected) => {
  const points = times.map((time, i) => ({ sequence: i + 1, time: new Date(time) }));
  expect(firstOutOfTime(points, NOW)?.sequence ?? null).toBe(expected);
  expect(firstOutOfTime(points.toReversed(), NOW)?.sequence ?? null).toBe(expected);
});
