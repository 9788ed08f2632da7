import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { windowState, windowVerdict } from "../../../src/controller/plan/window.ts";
import { wallTime } from "../../../src/lib/zone.ts";

describe("windowState", () => {
  test.each([
    ["before", "01:00", "05:00", "2026-11-20T23:59Z", false, "2026-11-21T00:00:00.000Z"],
    ["at the start", "01:00", "05:00", "2026-11-21T00:00Z", true, "2026-11-21T04:00:00.000Z"],
    ["at the end", "01:00", "05:00", "2026-11-21T04:00Z", false, "2026-11-22T00:00:00.000Z"],
    ["over midnight, before it", "22:00", "06:00", "2026-11-20T22:00Z", true, "2026-11-21T05:00:00.000Z"],
    ["over midnight, after it", "22:00", "06:00", "2026-11-21T04:59:59Z", true, "2026-11-21T05:00:00.000Z"],
    ["over midnight, by day", "22:00", "06:00", "2026-11-21T11:30:30Z", false, "2026-11-21T21:00:00.000Z"],
    ["its start is left out by the clocks", "02:30", "05:00", "2026-03-29T00:00Z", false, "2026-03-29T01:00:00.000Z"],
    ["all of it is left out by the clocks", "02:10", "02:50", "2026-03-29T00:00Z", false, "2026-03-30T00:10:00.000Z"],
    ["shown twice, the first time", "02:00", "02:30", "2026-10-25T00:00Z", true, "2026-10-25T00:30:00.000Z"],
    ["shown twice, between", "02:00", "02:30", "2026-10-25T00:45Z", false, "2026-10-25T01:00:00.000Z"],
    ["shown twice, the second time", "02:00", "02:30", "2026-10-25T01:10Z", true, "2026-10-25T01:30:00.000Z"],
  ])("%s: %s to %s at %s", (...[, start, end, now, open, until]) => {
    const state = windowState({ start, end }, "Europe/Berlin", new Date(now));
    expect([state.open, state.until.toISOString()]).toEqual([open, until]);
  });

  test("is what the clocks say, minute by minute, and changes when it says", () => {
    const clock = fc
      .tuple(fc.integer({ min: 0, max: 23 }), fc.constantFrom(0, 15, 30, 59))
      .map(([h, m]) => `${`${h}`.padStart(2, "0")}:${`${m}`.padStart(2, "0")}`);
    const days = fc.constantFrom(
      Date.UTC(2026, 2, 28, 20),
      Date.UTC(2026, 9, 24, 20),
      Date.UTC(2026, 3, 4, 10),
      Date.UTC(2026, 9, 3, 10),
      Date.UTC(2026, 6, 1),
    );
    const zone = fc.constantFrom("UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/New_York");
    fc.assert(
      fc.property(clock, clock, zone, days, (start, end, timeZone, from) => {
        fc.pre(start !== end);
        const isOpen = (at: number): boolean => {
          const { hour, minute } = wallTime(new Date(at), timeZone);
          const shown = `${`${hour}`.padStart(2, "0")}:${`${minute}`.padStart(2, "0")}`;
          return start < end ? start <= shown && shown < end : shown >= start || shown < end;
        };
        const first = windowState({ start, end }, timeZone, new Date(from + 30_500));
        expect(first.open).toBe(isOpen(from));
        let at = from;
        while (isOpen(at) === first.open) at += 60_000;
        expect(first.until.toISOString()).toBe(new Date(at).toISOString());
      }),
      { numRuns: 150 },
    );
  });
});

describe("windowVerdict", () => {
  const until = new Date("2026-11-21T22:00:00.000Z");
  test.each([
    ["inside", "23:30", "Cancel", true, { kind: "go" }],
    ["inside, not begun", "23:30", "Continue", false, { kind: "go" }],
    ["closed on a run", "12:00", "Cancel", true, { kind: "end" }],
    ["closed on one that waited", "12:00", "Cancel", false, { kind: "end" }],
    ["closed on a run that may go on", "12:00", "Continue", true, { kind: "go" }],
    ["closed on one that has to wait", "12:00", "Continue", false, { kind: "wait", until }],
  ] as const)("%s: %s, %s", (...[, at, onOverrun, begun, verdict]) => {
    const now = new Date(`2026-11-21T${at}:00Z`);
    expect(windowVerdict({ start: "22:00", end: "06:00", onOverrun }, { timeZone: "UTC", now, begun })).toEqual(verdict);
  });
});
