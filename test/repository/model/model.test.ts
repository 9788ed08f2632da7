import { randomInt } from "node:crypto";
import { describe, expect, test } from "vitest";

import { explore } from "./explore.ts";
import { type Rules, rules } from "./rules.ts";

/** Ninety steps each. A slice here; `SOAK=1` explores for minutes. */
const SCHEDULES = process.env["SOAK"] === "1" ? 20_000_000 : 300_000;
/** A broken rule shows within so many. */
const ENOUGH = 1_000_000;

describe("backup, forget and prune at one store", () => {
  test(`lose nothing and leave nothing behind, in ${SCHEDULES.toLocaleString("en")} schedules`, { timeout: 3_600_000 }, () => {
    const from = randomInt(2 ** 30);
    const violation = explore(rules, { from, schedules: SCHEDULES });
    expect(violation, `seed ${from}: ${violation?.what}\n${violation?.trace.join("\n")}`).toBeNull();
  });

  // The model bites: without any one of its rules it finds how data is lost.
  test.each<[string, Partial<Rules>]>([
    ["a writer commits however old it is", { mayCommit: () => true }],
    ["a commit arrives however late", { isAccepted: () => true }],
    ["a writer stands on what was forgotten", { standsOnForgotten: true }],
    ["a writer notes the time after it looked", { notesTimeFirst: false }],
    ["a forgotten point does not count at once", { isRoot: () => false }],
    ["packs are given up however new", { isOld: () => true }],
    ["two marks may be near each other, and lists stale", { mayRemove: () => true }],
    [
      "two marks may be near each other, and the grace of a forgotten point is no longer than a run",
      { isRoot: (marked, now) => now - marked < 24, mayRemove: () => true },
    ],
  ])("%s: data is lost", { timeout: 600_000 }, (_name, broken) => {
    const violation = explore({ ...rules, ...broken }, { from: 1, schedules: ENOUGH });
    expect(violation?.what).toMatch(/refers to it|did not find/);
  });

  test("what is kept for ever is found, too", { timeout: 600_000 }, () => {
    const violation = explore({ ...rules, isOld: () => false }, { from: 1, schedules: 1000 });
    expect(violation?.what).toMatch(/left behind/);
  });
});
