import { describe, expect, test } from "vitest";

import { planUpkeep } from "../../../src/controller/plan/upkeep.ts";

const at = (clock: string, day = 10): Date => new Date(`2026-03-${String(day).padStart(2, "0")}T${clock}:00Z`);
const made = at("09:00", 1);
const daily = "0 3 * * *";

describe("planUpkeep", () => {
  test("nothing is due before its first time after the repository was made", () => {
    const never = { since: at("12:00"), attempt: null, succeeded: false };
    expect(planUpkeep(daily, "UTC", never, at("23:00"))).toEqual({ isDue: false, next: at("03:00", 11) });
    expect(planUpkeep(daily, "UTC", never, at("03:00", 11))).toEqual({ isDue: true, next: at("03:00", 12) });
  });

  test("times that passed while nobody looked count once", () => {
    const history = { since: made, attempt: at("03:05", 5), succeeded: true };
    expect(planUpkeep(daily, "UTC", history, at("12:00"))).toEqual({ isDue: true, next: at("03:00", 11) });
    const done = { since: made, attempt: at("12:01"), succeeded: true };
    expect(planUpkeep(daily, "UTC", done, at("12:02"))).toEqual({ isDue: false, next: at("03:00", 11) });
  });

  test("what failed is tried again after an hour, or at its next time where that is sooner", () => {
    const failed = { since: made, attempt: at("03:05"), succeeded: false };
    expect(planUpkeep(daily, "UTC", failed, at("03:06"))).toEqual({ isDue: false, next: at("04:05") });
    expect(planUpkeep(daily, "UTC", failed, at("04:05")).isDue).toBe(true);
    expect(planUpkeep("*/10 * * * *", "UTC", failed, at("03:06")).next).toEqual(at("03:10"));
  });

  test("times are those of the zone, and a schedule without any is never due", () => {
    const never = { since: made, attempt: null, succeeded: false };
    expect(planUpkeep(daily, "Asia/Tokyo", { ...never, since: at("12:00") }, at("13:00")).next).toEqual(at("18:00"));
    expect(planUpkeep("0 0 30 2 *", "UTC", never, at("13:00"))).toEqual({ isDue: false, next: null });
    expect(() => planUpkeep("61 * * * *", "UTC", never, at("13:00"))).toThrow(/is no schedule/);
  });
});
