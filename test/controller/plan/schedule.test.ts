import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCron } from "../../../src/controller/plan/cron.ts";
import { jitterOf, planSchedule, type PolicySchedule, type ScheduledMachine } from "../../../src/controller/plan/schedule.ts";

const nightly: PolicySchedule = {
  uid: "policy",
  createdAt: new Date("2026-11-01T00:00Z"),
  schedule: "0 2 * * *",
  timeZone: "UTC",
  suspend: false,
  jitterSeconds: 0,
  startingDeadlineSeconds: 3600,
  window: null,
  trigger: null,
};

function machine(more: Partial<ScheduledMachine> = {}): ScheduledMachine {
  return { uid: "vm", createdAt: new Date("2026-11-01T00:00Z"), lastTick: null, lastTrigger: null, active: false, ...more };
}

/** What one machine's plan says, in short. */
function plan(policy: Partial<PolicySchedule>, one: Partial<ScheduledMachine>, now: string): Record<string, unknown> {
  const { due, missed, lookAgain, nextTick } = planSchedule({ ...nightly, ...policy }, [machine(one)], new Date(now));
  return {
    due: due.map((run) => [run.tick?.toISOString().slice(0, 16) ?? "trigger", run.missed]),
    missed: missed.map((run) => [run.tick.toISOString().slice(0, 16), run.reason, run.missed]),
    look: lookAgain?.toISOString().slice(0, 16) ?? null,
    next: nextTick?.toISOString().slice(0, 16) ?? null,
  };
}

describe("planSchedule", () => {
  const served = { lastTick: new Date("2026-11-20T02:00Z") };

  test.each<[string, Partial<PolicySchedule>, Partial<ScheduledMachine>, string, Record<string, unknown>]>([
    ["before the time", {}, served, "2026-11-21T01:59Z", { due: [], missed: [], look: "2026-11-21T02:00", next: "2026-11-21T02:00" }],
    [
      "at the time",
      {},
      served,
      "2026-11-21T02:00Z",
      { due: [["2026-11-21T02:00", 0]], missed: [], look: "2026-11-22T02:00", next: "2026-11-22T02:00" },
    ],
    ["served", {}, { lastTick: new Date("2026-11-21T02:00Z") }, "2026-11-21T02:30Z", { due: [], missed: [], look: "2026-11-22T02:00" }],
    ["late, within the deadline", {}, served, "2026-11-21T03:00Z", { due: [["2026-11-21T02:00", 0]], missed: [] }],
    ["too late", {}, served, "2026-11-21T03:01Z", { due: [], missed: [["2026-11-21T02:00", "TooLate", 1]], look: "2026-11-22T02:00" }],
    [
      "away for days: one run, the others counted",
      {},
      { lastTick: new Date("2026-11-15T02:00Z") },
      "2026-11-21T02:10Z",
      { due: [["2026-11-21T02:00", 5]], missed: [] },
    ],
    [
      "away for days and too late",
      {},
      { lastTick: new Date("2026-11-15T02:00Z") },
      "2026-11-21T12:00Z",
      { due: [], missed: [["2026-11-21T02:00", "TooLate", 6]] },
    ],
    ["no deadline: however late", { startingDeadlineSeconds: null }, served, "2026-11-21T23:00Z", { due: [["2026-11-21T02:00", 0]] }],
    [
      "a new policy has no times before it",
      { createdAt: new Date("2026-11-21T02:01Z") },
      {},
      "2026-11-21T02:10Z",
      { due: [], missed: [], look: "2026-11-22T02:00" },
    ],
    [
      "a new machine has no times before it",
      {},
      { createdAt: new Date("2026-11-21T02:01Z") },
      "2026-11-21T02:10Z",
      { due: [], missed: [] },
    ],
    ["a machine that was there, newly selected", {}, {}, "2026-11-21T02:10Z", { due: [["2026-11-21T02:00", 20]], missed: [] }],
    ["suspended", { suspend: true }, served, "2026-11-21T02:00Z", { due: [], missed: [], look: null, next: null }],
    ["no schedule", { schedule: null }, served, "2026-11-21T02:00Z", { due: [], missed: [], look: null, next: null }],
    ["a run still goes on", {}, { ...served, active: true }, "2026-11-21T02:30Z", { due: [], missed: [] }],
    [
      "a run goes on past the deadline",
      {},
      { ...served, active: true },
      "2026-11-21T04:00Z",
      { due: [], missed: [["2026-11-21T02:00", "StillRunning", 1]] },
    ],
    [
      "the window is closed",
      { window: { start: "02:30", end: "05:00" } },
      served,
      "2026-11-21T02:00Z",
      { due: [], missed: [], look: "2026-11-21T02:30" },
    ],
    [
      "the window has opened",
      { window: { start: "02:30", end: "05:00" } },
      served,
      "2026-11-21T02:30Z",
      { due: [["2026-11-21T02:00", 0]] },
    ],
    [
      "the window opens too late",
      { window: { start: "04:00", end: "05:00" } },
      served,
      "2026-11-21T02:00Z",
      { due: [], missed: [["2026-11-21T02:00", "OutsideWindow", 1]] },
    ],
    [
      "a trigger, suspended and outside the window",
      { suspend: true, trigger: "now", window: { start: "04:00", end: "05:00" } },
      served,
      "2026-11-21T12:00Z",
      { due: [["trigger", 0]] },
    ],
    ["a trigger stands for the time that is due", { trigger: "now" }, served, "2026-11-21T02:00Z", { due: [["trigger", 0]], missed: [] }],
    ["a trigger that was served", { trigger: "now" }, { ...served, lastTrigger: "now" }, "2026-11-21T01:00Z", { due: [] }],
    ["a trigger while a run goes on waits for it", { trigger: "now" }, { ...served, active: true }, "2026-11-21T01:00Z", { due: [] }],
    [
      "the missing hour",
      { schedule: "30 2 * * *", timeZone: "Europe/Berlin" },
      { lastTick: new Date("2026-03-28T01:30Z"), createdAt: new Date(0) },
      "2027-03-28T01:00Z",
      { due: [["2027-03-28T01:00", 100]] },
    ],
  ])("%s", (...[, policy, one, now, expected]) => {
    expect(plan(policy, one, now)).toMatchObject(expected);
  });

  test("jitter moves the start, not the name's time", () => {
    const policy = { ...nightly, jitterSeconds: 1200 };
    const share = jitterOf("policy", "vm", 1200);
    const start = Date.UTC(2026, 10, 21, 2) + share;
    expect(share).toBe(94_000);
    expect(planSchedule(policy, [machine(served)], new Date(start - 1))).toMatchObject({ due: [], lookAgain: new Date(start) });
    expect(planSchedule(policy, [machine(served)], new Date(start)).due).toMatchObject([{ tick: new Date("2026-11-21T02:00Z") }]);
    // The deadline counts from the machine's own start.
    expect(planSchedule(policy, [machine(served)], new Date(start + 3_600_000)).due).toHaveLength(1);
  });

  test("jitter is spread evenly", () => {
    const shares = Array.from({ length: 2000 }, (_, index) => jitterOf("p", `vm-${index}`, 100) / 1000);
    for (let tenth = 0; tenth < 100; tenth += 10) {
      expect(Math.abs(shares.filter((share) => share >= tenth && share < tenth + 10).length - 200)).toBeLessThan(60);
    }
  });
});

describe("a controller that looks whenever it is told to", () => {
  const policies = fc.record({
    schedule: fc.constantFrom("0 2 * * *", "*/30 * * * *", "15 1-4 * * *"),
    timeZone: fc.constantFrom("UTC", "Europe/Berlin", "Australia/Lord_Howe"),
    jitterSeconds: fc.constantFrom(0, 600, 7200),
    window: fc.constantFrom(null, { start: "22:00", end: "06:00" }),
  });
  const from = fc.constantFrom(Date.UTC(2026, 2, 28), Date.UTC(2026, 9, 24), Date.UTC(2026, 10, 1));

  test("makes one run for each time, whatever the absences, and never two for one", () => {
    fc.assert(
      fc.property(policies, from, fc.array(fc.integer({ min: 0, max: 14 * 3600 }), { maxLength: 8 }), (partial, begin, absences) => {
        const policy: PolicySchedule = { ...nightly, ...partial, createdAt: new Date(begin), startingDeadlineSeconds: null };
        let vm = machine({ createdAt: new Date(begin) });
        let now = begin;
        const runs: number[] = [];
        const missed: number[] = [];
        for (let step = 0; step < 200 && now < begin + 3 * 86_400_000; step += 1) {
          const { due, lookAgain } = planSchedule(policy, [vm], new Date(now));
          expect(due.length).toBeLessThanOrEqual(1);
          for (const run of due) {
            runs.push((run.tick as Date).getTime());
            missed.push(run.missed);
            vm = { ...vm, lastTick: run.tick };
          }
          expect(lookAgain?.getTime()).toBeGreaterThan(now);
          now = (lookAgain as Date).getTime() + (absences[step] ?? 0) * 1000;
        }
        expect(runs).toEqual([...new Set(runs)].toSorted((a, b) => a - b));
        // Every time since the beginning is a run or was counted by one.
        const last = runs.at(-1);
        let passed = 0;
        const ticks = parseCron(partial.schedule, partial.timeZone);
        for (let tick = ticks.next(new Date(begin)); tick !== null && tick.getTime() <= (last ?? 0); tick = ticks.next(tick)) passed += 1;
        // 100 stands for more.
        if (missed.every((count) => count < 100)) expect(runs.length + missed.reduce((sum, count) => sum + count, 0)).toBe(passed);
      }),
    );
  });
});

test("1,000 machines that were left alone for a year are planned within seconds", () => {
  const machines = Array.from({ length: 1000 }, (_, index) =>
    machine({ uid: `${index}`, createdAt: new Date(Date.UTC(2025, 0, 1) + index) }),
  );
  const policy = { ...nightly, schedule: "* * * * *", createdAt: new Date(0), jitterSeconds: 3600, timeZone: "Europe/Berlin" };
  const begun = performance.now();
  const { due } = planSchedule(policy, machines, new Date("2026-11-21T12:00:30Z"));
  // The bar of a policy's tick is five seconds; half of it, on a machine that does other things too.
  expect(performance.now() - begun).toBeLessThan(2500);
  expect(due).toHaveLength(1000);
});
