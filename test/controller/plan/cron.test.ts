import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCron } from "../../../src/controller/plan/cron.ts";
import { InvalidValueError } from "../../../src/lib/invalid-value.ts";

/** The times after `from`, and whether going back from each gives the one before. */
function times(expression: string, from: string, count: number): string[] {
  const ticks = parseCron(expression, "Europe/Berlin");
  const found: string[] = [];
  let at: Date | null = new Date(from);
  while (at !== null && found.length < count) {
    at = ticks.next(at);
    if (at !== null) found.push(at.toISOString().slice(0, 16));
  }
  return found;
}

describe("where clocks change, in Berlin", () => {
  test.each([
    [
      "the only time of a day, left out: when the clocks change",
      "30 2 * * *",
      "2026-03-28T12:00Z",
      ["2026-03-29T01:00", "2026-03-30T00:30"],
    ],
    ["the only time of a day, twice: the first", "30 2 * * *", "2026-10-24T12:00Z", ["2026-10-25T00:30", "2026-10-26T01:30"]],
    ["every half hour, left out", "*/30 * * * *", "2026-03-29T00:00Z", ["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30"]],
    [
      "every half hour, twice",
      "*/30 * * * *",
      "2026-10-25T00:00Z",
      ["2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00"],
    ],
    [
      "one of several times of a day, left out",
      "30 1-3 * * *",
      "2026-03-28T22:00Z",
      ["2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T23:30"],
    ],
    ["@daily", "@daily", "2026-10-24T12:00Z", ["2026-10-24T22:00", "2026-10-25T23:00"]],
  ])("%s", (_what, expression, from, expected) => {
    expect(times(expression, from, expected.length)).toEqual(expected);
  });
});

test("a time is its own last, and not its own next", () => {
  const ticks = parseCron("15 2 * * *", "UTC");
  const tick = new Date("2026-11-21T02:15:00Z");
  expect([ticks.last(tick), ticks.next(tick)]).toEqual([tick, new Date("2026-11-22T02:15:00Z")]);
  expect(ticks.last(new Date("2026-11-21T02:14:59.999Z"))).toEqual(new Date("2026-11-20T02:15:00Z"));
  for (const [since, count] of [
    ["2026-11-20T02:15Z", 0],
    ["2026-11-20T02:14Z", 1],
    ["2026-11-11T00:00Z", 10],
    ["2020-01-01T00:00Z", 50],
  ] as const) {
    expect(ticks.countBetween(new Date(since), tick, 50)).toBe(count);
  }
  expect(parseCron("15 2 * * *", "UTC").countBetween(new Date("2026-11-11T00:00Z"), tick, 50)).toBe(10);
});

test("an expression without times has none", () => {
  const never = parseCron("0 2 30 2 *", "UTC");
  expect(parseCron("0 0 29 2 *", "UTC").countBetween(new Date(-1e14), new Date("2028-02-29T00:00Z"), 100)).toBeGreaterThan(10);
  expect([never.last(new Date("2026-11-21")), never.next(new Date("2026-11-21"))]).toEqual([null, null]);
});

test.each([
  ["61 * * * *", "UTC"],
  ["* * * * * *", "UTC"],
  ["@reboot", "UTC"],
  ["", "UTC"],
  ["0 2 * * *", "Europe/Atlantis"],
])("%s in %s is refused in words", (expression, zone) => {
  expect(() => parseCron(expression, zone)).toThrow(InvalidValueError);
  expect(() => parseCron(expression, zone)).toThrow(`"${expression}" in time zone "${zone}" is no schedule`);
});

test("last and next enclose every instant, asked in any order", () => {
  const around = fc.constantFrom(
    Date.UTC(2026, 2, 29),
    Date.UTC(2026, 9, 25),
    Date.UTC(2026, 6, 1),
    Date.UTC(2026, 3, 4, 15),
    Date.UTC(2026, 9, 3, 15),
  );
  const instant = fc.tuple(around, fc.integer({ min: -36 * 3600, max: 36 * 3600 })).map(([day, seconds]) => day + seconds * 1000);
  fc.assert(
    fc.property(
      fc.constantFrom("30 2 * * *", "*/20 * * * *", "0 1-4 * * *", "15 2 * * 0", "5 0,2,12 * * *"),
      fc.constantFrom("UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"),
      fc.array(instant, { minLength: 1, maxLength: 5 }),
      (expression, zone, instants) => {
        const ticks = parseCron(expression, zone);
        for (const at of instants) {
          const [last, next] = [ticks.last(new Date(at)), ticks.next(new Date(at))];
          expect(last?.getTime()).toBeLessThanOrEqual(at);
          expect(next?.getTime()).toBeGreaterThan(at);
          // Nothing lies between: what follows the last is the next.
          expect(parseCron(expression, zone).next(last as Date)).toEqual(next);
        }
      },
    ),
    { numRuns: 500 },
  );
});
