import { describe, expect, test } from "vitest";

import { type BackupRepository, parseAgentResult, type SucceededResult } from "../../../src/api/index.ts";
import { type Told, tasks } from "../../../src/controller/upkeep/tasks.ts";

const checked = { samplePercent: 100, points: 3, packs: 5, bytesRead: 0, findings: 0, damaged: 0, damagedPoints: [] };
const pruned = { packs: 5, packBytes: 500, removedPoints: 1, removedPacks: 1, removedBytes: 100, waitingBytes: 0, unclear: 0 };
const sums = { compared: 5, unrecorded: 0, unkept: 0 };

/** What the controller makes of what an agent wrote. */
function told(work: "prune" | "check" | "lock", part: object): Told {
  const written = JSON.stringify({ version: 1, outcome: "Succeeded", message: "m", warnings: [], [work]: part });
  const found = tasks.find((one) => one.work === work)?.told(parseAgentResult(written) as SucceededResult);
  if (found === undefined || found === null) throw new Error(`nothing is told of ${work}`);
  return found;
}

describe("what a check came to", () => {
  test.each([
    ["a share that was read", { level: "list", samplePercent: 99 }, "NoDamageFound", false],
    ["all that was read", { level: "list", bytesRead: 500 }, "NoDamageFound", true],
    ["by an agent that knows of no levels", { bytesRead: 500 }, "NoDamageFound", true],
    ["all checksums, the store's word", { level: "checksum", sums }, "NoDamageFound", false],
    ["checksums of which none could be compared", { level: "checksum", sums: { compared: 0, unrecorded: 2, unkept: 3 } }, "NothingCompared", false], // prettier-ignore
    ["the same where there is nothing yet", { level: "checksum", packs: 0, sums: { ...sums, compared: 0 } }, "NoDamageFound", false],
    ["damage that the lists show", { level: "checksum", findings: 1, damaged: 1, damagedPoints: ["a-1"], sums: { ...sums, compared: 0 } }, "DamageFound", false], // prettier-ignore
    ["more damage than a result has room for", { level: "list", findings: 1, damaged: 65, damagedPoints: ["a-1"] }, "DamageFound", false],
  ])("%s", (_what, part, reason, isWhole) => {
    const status = { NoDamageFound: "True", NothingCompared: "Unknown", DamageFound: "False" }[reason];
    expect(told("check", { ...checked, ...part })).toMatchObject({ say: { status, reason, message: "m" }, isWhole });
  });

  test("shows its level, and takes away what one of another level compared", () => {
    expect(told("check", { ...checked, level: "checksum", sums }).facts).toMatchObject({ level: "Checksum", comparedPacks: 5 });
    expect(told("check", { ...checked, level: "list" }).facts).toHaveProperty("comparedPacks", undefined);
    expect(told("check", { ...checked, level: "list" }).facts).toMatchObject({ level: "List" });
  });

  test("is ordered by the words of the command line", () => {
    const check = { schedule: "@daily", level: "Checksum", samplePercent: 10 } as const;
    const maintenance: BackupRepository["spec"]["maintenance"] = { timeZone: "UTC", check };
    expect(tasks.map((task) => task.scheduled(maintenance)?.work)).toEqual([
      undefined,
      { type: "check", level: "checksum", samplePercent: 10 },
      undefined,
    ]);
  });
});

describe("what a prune came to", () => {
  test("shows packs of which little is needed", () => {
    const { facts, say } = told("prune", { ...pruned, sparse: { packs: 2, bytes: 200, needless: 150 } });
    expect(say.reason).toBe("Pruned");
    expect(facts).toMatchObject({ packBytes: 500, sparsePacks: 2, sparseBytes: 200, needlessBytes: 150 });
    expect(facts).not.toHaveProperty("sparse");
  });

  test("takes away what an earlier one said and it does not", () => {
    const gone = Object.entries(told("prune", pruned).facts).filter(([, value]) => value === undefined);
    expect(gone.map(([name]) => name).toSorted()).toEqual(["needlessBytes", "sparseBytes", "sparsePacks", "waitingUntil"]);
  });
});

test("a lock that is the soonest no more is taken away", () => {
  expect(told("lock", { objects: 0, renewed: 0, left: 0, exposed: 0 }).facts).toHaveProperty("soonest", undefined);
});
