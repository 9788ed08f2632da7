import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { instantOf, wallTime } from "../../src/lib/zone.ts";

const zones = [
  "UTC",
  "Europe/Berlin",
  "America/New_York",
  "America/St_Johns",
  "Australia/Lord_Howe",
  "Asia/Kathmandu",
  "Pacific/Apia",
  "Africa/Cairo",
];
const minutes = fc.integer({ min: Date.UTC(2015, 0, 1) / 60_000, max: Date.UTC(2035, 0, 1) / 60_000 });

describe("wallTime", () => {
  test.each([
    ["2026-11-21T13:05:06Z", "Europe/Berlin", { year: 2026, month: 11, day: 21, hour: 14, minute: 5, second: 6, offset: 60 }],
    ["2026-07-01T23:30:00Z", "Asia/Kathmandu", { year: 2026, month: 7, day: 2, hour: 5, minute: 15, second: 0, offset: 345 }],
    ["2026-01-01T00:00:00Z", "America/New_York", { year: 2025, month: 12, day: 31, hour: 19, minute: 0, second: 0, offset: -300 }],
    ["2026-01-01T00:00:00Z", "UTC", { year: 2026, month: 1, day: 1, hour: 0, minute: 0, second: 0, offset: 0 }],
  ])("%s in %s", (instant, zone, wall) => {
    expect(wallTime(new Date(instant), zone)).toEqual(wall);
  });

  test("is what the calendar of the zone shows at any instant, days on which clocks change among them", () => {
    const instants = fc.oneof(minutes, fc.integer({ min: Date.UTC(2026, 2, 28) / 60_000, max: Date.UTC(2026, 3, 6) / 60_000 }));
    fc.assert(
      fc.property(instants, fc.constantFrom(...zones), (minute, zone) => {
        const instant = new Date(minute * 60_000);
        const { year, month, day, hour, minute: shown, second } = wallTime(instant, zone);
        const pad = (value: number): string => String(value).padStart(2, "0");
        const text = `${year}-${pad(month)}-${pad(day)} ${pad(hour)}:${pad(shown)}:${pad(second)}`;
        // Sweden writes dates as ISO 8601 does.
        expect(text).toBe(instant.toLocaleString("sv-SE", { timeZone: zone }));
      }),
      { numRuns: 3000 },
    );
  });

  test("a zone that does not exist is refused", () => {
    expect(() => wallTime(new Date(0), "Europe/Atlantis")).toThrow(RangeError);
  });
});

describe("instantOf", () => {
  test.each([
    ["an ordinary night", "Europe/Berlin", [2026, 11, 21, 2, 30], "2026-11-21T01:30:00.000Z"],
    ["an hour that is left out: when the clocks change", "Europe/Berlin", [2026, 3, 29, 2, 30], "2026-03-29T01:00:00.000Z"],
    ["an hour that comes twice: the first", "Europe/Berlin", [2026, 10, 25, 2, 30], "2026-10-25T00:30:00.000Z"],
    ["a change of half an hour", "Australia/Lord_Howe", [2026, 10, 4, 2, 15], "2026-10-03T15:30:00.000Z"],
    ["midnight left out", "Africa/Cairo", [2026, 4, 24, 0, 0], "2026-04-23T22:00:00.000Z"],
    ["a day left out", "Pacific/Apia", [2011, 12, 30, 12, 0], "2011-12-30T10:00:00.000Z"],
  ] as const)("%s", (_what, zone, [year, month, day, hour, minute], instant) => {
    expect(instantOf({ year, month, day, hour, minute }, zone).toISOString()).toBe(instant);
  });

  test("gives back the instant whose wall time it got, or its first occurrence", () => {
    fc.assert(
      fc.property(minutes, fc.constantFrom(...zones), (minute, zone) => {
        const instant = new Date(minute * 60_000);
        const wall = wallTime(instant, zone);
        const found = instantOf(wall, zone);
        const { offset: _, ...shown } = wall;
        expect(wallTime(found, zone)).toMatchObject(shown);
        expect(found.getTime()).toBeLessThanOrEqual(instant.getTime());
      }),
      { numRuns: 3000 },
    );
  });
});
