import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planRetention, type RetainedPoint, type RetentionRules, retentionPreview } from "../../src/retention/index.ts";

function point(time: string, more: Partial<RetainedPoint> = {}): RetainedPoint {
  return { id: time, time: new Date(time), ready: true, hold: false, ...more };
}

/** What stays and why, one line a point, newest first; what is forgotten has no reason. */
function table(points: readonly RetainedPoint[], rules: RetentionRules, zone = "UTC"): string[] {
  return planRetention(points, rules, zone).map(({ point: { id }, reasons }) => `${id}: ${reasons.join(", ") || "-"}`);
}

describe("golden", () => {
  test("a year of nights: 7 daily, 4 weekly, 12 monthly, 2 yearly", () => {
    const nights = Array.from({ length: 500 }, (_, index) => point(new Date(Date.UTC(2026, 10, 21, 1) - index * 86_400_000).toISOString()));
    const kept = planRetention(nights, { keepDaily: 7, keepWeekly: 4, keepMonthly: 12, keepYearly: 2 }, "Europe/Berlin")
      .filter(({ reasons }) => reasons.length > 0)
      .map(({ point: { id }, reasons }) => `${id.slice(0, 10)}: ${reasons.join(", ")}`);
    expect(kept).toEqual([
      "2026-11-21: newest, minimum, daily 2026-11-21, weekly 2026-W47, monthly 2026-11, yearly 2026",
      "2026-11-20: daily 2026-11-20",
      "2026-11-19: daily 2026-11-19",
      "2026-11-18: daily 2026-11-18",
      "2026-11-17: daily 2026-11-17",
      "2026-11-16: daily 2026-11-16",
      "2026-11-15: daily 2026-11-15, weekly 2026-W46",
      "2026-11-08: weekly 2026-W45",
      "2026-11-01: weekly 2026-W44",
      "2026-10-31: monthly 2026-10",
      "2026-09-30: monthly 2026-09",
      "2026-08-31: monthly 2026-08",
      "2026-07-31: monthly 2026-07",
      "2026-06-30: monthly 2026-06",
      "2026-05-31: monthly 2026-05",
      "2026-04-30: monthly 2026-04",
      "2026-03-31: monthly 2026-03",
      "2026-02-28: monthly 2026-02",
      "2026-01-31: monthly 2026-01",
      "2025-12-31: monthly 2025-12, yearly 2025",
    ]);
  });

  test("stretches without a point do not count, and each is held by its last point", () => {
    expect(
      table([point("2026-11-20T10:00Z"), point("2026-11-20T22:00Z"), point("2026-11-03T10:00Z"), point("2026-10-01T10:00Z")], {
        keepDaily: 2,
      }),
    ).toEqual([
      "2026-11-20T22:00Z: newest, minimum, daily 2026-11-20",
      "2026-11-20T10:00Z: -",
      "2026-11-03T10:00Z: daily 2026-11-03",
      "2026-10-01T10:00Z: -",
    ]);
  });

  test("days are the zone's", () => {
    const points = [point("2026-11-20T22:30Z"), point("2026-11-20T23:30Z")];
    expect(table(points, { keepDaily: 9 }, "UTC")).toEqual([
      "2026-11-20T23:30Z: newest, minimum, daily 2026-11-20",
      "2026-11-20T22:30Z: -",
    ]);
    expect(table(points, { keepDaily: 9 }, "Europe/Berlin")).toEqual([
      "2026-11-20T23:30Z: newest, minimum, daily 2026-11-21",
      "2026-11-20T22:30Z: daily 2026-11-20",
    ]);
  });

  test("an hour that the clocks show twice is two hours, the one left out is none", () => {
    expect(
      table([point("2026-10-24T23:59Z"), point("2026-10-25T00:30Z"), point("2026-10-25T01:30Z")], { keepHourly: 9 }, "Europe/Berlin"),
    ).toEqual([
      "2026-10-25T01:30Z: newest, minimum, hourly 2026-10-25 02:00+01:00",
      "2026-10-25T00:30Z: hourly 2026-10-25 02:00+02:00",
      "2026-10-24T23:59Z: hourly 2026-10-25 01:00+02:00",
    ]);
    expect(table([point("2026-03-29T00:59Z"), point("2026-03-29T01:00Z")], { keepHourly: 9 }, "Europe/Berlin")).toEqual([
      "2026-03-29T01:00Z: newest, minimum, hourly 2026-03-29 03:00+02:00",
      "2026-03-29T00:59Z: hourly 2026-03-29 01:00+01:00",
    ]);
  });

  test.each([
    ["2026-01-01", "2026-W01"],
    ["2025-12-29", "2026-W01"],
    ["2027-01-03", "2026-W53"],
    ["2027-01-04", "2027-W01"],
    ["2023-01-01", "2022-W52"],
  ])("%s lies in week %s of ISO 8601", (day, week) => {
    expect(table([point(`${day}T12:00Z`)], { keepWeekly: 1 })).toEqual([`${day}T12:00Z: newest, minimum, weekly ${week}`]);
  });

  test("keepWithin counts from the newest point, so a machine that is no longer backed up loses nothing", () => {
    expect(
      table([point("2020-01-03T00:00Z"), point("2020-01-02T00:00Z"), point("2020-01-01T00:00Z")], { keepWithinSeconds: 172_800 }),
    ).toEqual(["2020-01-03T00:00Z: newest, minimum, within 2d", "2020-01-02T00:00Z: within 2d", "2020-01-01T00:00Z: -"]);
  });

  test("a point that is not ready takes no place, and stays as long as its stretch", () => {
    const points = [
      point("2026-11-21T01:00Z"),
      point("2026-11-20T02:00Z", { ready: false }),
      point("2026-11-20T01:00Z"),
      point("2026-11-19T01:00Z", { ready: false }),
      point("2026-11-18T01:00Z", { ready: null }),
    ];
    expect(table(points, { keepDaily: 2 })).toEqual([
      "2026-11-21T01:00Z: newest, minimum, daily 2026-11-21",
      "2026-11-20T02:00Z: not ready, as long as daily 2026-11-20",
      "2026-11-20T01:00Z: daily 2026-11-20",
      "2026-11-19T01:00Z: -",
      "2026-11-18T01:00Z: its state is not known yet",
    ]);
  });

  test("while the newest point is not ready, or no rule is set, nothing is forgotten", () => {
    const older = [point("2026-11-20T01:00Z"), point("2026-11-19T01:00Z")];
    for (const ready of [false, null]) {
      const verdicts = planRetention([point("2026-11-21T01:00Z", { ready }), ...older], { keepLast: 1 }, "UTC");
      expect(retentionPreview(verdicts)).toEqual({ keep: 3, forget: 0, held: 0 });
      expect(verdicts[2]?.reasons).toEqual(["the newest restore point is not ready"]);
    }
    expect(table(older, { keepLast: 0, keepDaily: 0, minimumRestorePoints: 1 })).toEqual(older.map(({ id }) => `${id}: no rule is set`));
  });

  test("hold and minimum are told apart in the preview", () => {
    const points = [5, 4, 3, 2, 1].map((day) => point(`2026-11-0${day}T01:00Z`, { hold: day === 1 || day === 5 }));
    const verdicts = planRetention(points, { keepLast: 1, minimumRestorePoints: 2 }, "UTC");
    expect(verdicts.map(({ reasons }) => reasons)).toEqual([["hold", "newest", "minimum", "last 1"], ["minimum"], [], [], ["hold"]]);
    expect(retentionPreview(verdicts)).toEqual({ keep: 3, forget: 2, held: 1 });
  });
});

const count = fc.integer({ min: 0, max: 6 });
const rulesOf: fc.Arbitrary<RetentionRules> = fc.record(
  {
    keepLast: count,
    keepHourly: count,
    keepDaily: count,
    keepWeekly: count,
    keepMonthly: count,
    keepYearly: count,
    keepWithinSeconds: fc.integer({ min: 0, max: 90 * 86_400 }),
    minimumRestorePoints: fc.integer({ min: 1, max: 5 }),
  },
  { requiredKeys: ["minimumRestorePoints"] },
);
// Points cluster, so that hours, days and weeks are shared.
const pointsOf = fc
  .array(
    fc.tuple(
      fc.integer({ min: 0, max: 800 }),
      fc.integer({ min: 0, max: 40 }),
      fc.boolean(),
      fc.constantFrom(true, true, true, true, false, null),
    ),
    {
      maxLength: 60,
    },
  )
  .map((all) =>
    all.map(([day, half, held, ready], index): RetainedPoint => ({
      id: `p${index}`,
      time: new Date(Date.UTC(2025, 0, 1) + (day * 24 + half / 2) * 3_600_000),
      ready,
      hold: held && index % 7 === 0,
    })),
  );
const zone = fc.constantFrom("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe");

function keptIds(points: readonly RetainedPoint[], rules: RetentionRules, timeZone: string): string[] {
  return planRetention(points, rules, timeZone)
    .filter(({ reasons }) => reasons.length > 0)
    .map(({ point: { id } }) => id);
}

function setsARule(rules: RetentionRules): boolean {
  return Object.entries(rules).some(([name, value]) => name !== "minimumRestorePoints" && value > 0);
}

describe("always", () => {
  test("the newest point, those on hold and the minimum stay, and every point has one verdict", () => {
    fc.assert(
      fc.property(pointsOf, rulesOf, zone, (points, rules, timeZone) => {
        const kept = new Set(keptIds(points, rules, timeZone));
        const sorted = planRetention(points, rules, timeZone).map(({ point: one }) => one);
        expect(sorted.map(({ id }) => id).toSorted()).toEqual(points.map(({ id }) => id).toSorted());
        if (sorted[0] !== undefined) expect(kept).toContain(sorted[0].id);
        for (const { id } of points.filter(({ hold }) => hold)) expect(kept).toContain(id);
        for (const { id } of sorted.filter(({ ready }) => ready).slice(0, rules.minimumRestorePoints)) expect(kept).toContain(id);
        if (sorted[0]?.ready !== true) expect(kept.size).toBe(points.length);
      }),
    );
  });

  test("another rule, or a larger one, never forgets more", () => {
    fc.assert(
      fc.property(pointsOf, rulesOf, rulesOf, zone, (points, rules, more, timeZone) => {
        fc.pre(setsARule(rules));
        const both = Object.fromEntries(
          [...Object.keys(rules), ...Object.keys(more)].map((key) => {
            const name = key as keyof RetentionRules;
            return [name, Math.max(rules[name] ?? 0, more[name] ?? 0)];
          }),
        );
        expect(keptIds(points, both, timeZone)).toEqual(expect.arrayContaining(keptIds(points, rules, timeZone)));
      }),
    );
  });

  test("what stayed stays when it is judged again, in whatever order it comes", () => {
    fc.assert(
      fc.property(pointsOf, rulesOf, zone, (points, rules, timeZone) => {
        const kept = new Set(keptIds(points, rules, timeZone));
        const rest = points.filter(({ id }) => kept.has(id)).toReversed();
        expect(keptIds(rest, rules, timeZone)).toHaveLength(rest.length);
      }),
    );
  });

  test("no two Ready points are kept for the same stretch, and no rule keeps more than its count", () => {
    fc.assert(
      fc.property(pointsOf, rulesOf, zone, (points, rules, timeZone) => {
        const reasons = planRetention(points, rules, timeZone).flatMap((verdict) => verdict.reasons);
        for (const [word, limit] of [
          ["hourly", rules.keepHourly],
          ["daily", rules.keepDaily],
          ["weekly", rules.keepWeekly],
        ] as const) {
          const named = reasons.filter((reason) => reason.startsWith(`${word} `));
          expect(new Set(named).size).toBe(named.length);
          expect(named.length).toBeLessThanOrEqual(limit ?? 0);
        }
      }),
    );
  });
});

test("30,000 points are judged within seconds", () => {
  const points = Array.from({ length: 30_000 }, (_, index) => point(new Date(Date.UTC(2026, 0, 1) - index * 3_600_000).toISOString()));
  const begun = performance.now();
  const verdicts = planRetention(points, { keepHourly: 24, keepDaily: 30, keepYearly: 10 }, "Europe/Berlin");
  expect(performance.now() - begun).toBeLessThan(2500);
  expect(retentionPreview(verdicts).keep).toBeGreaterThan(50);
});
