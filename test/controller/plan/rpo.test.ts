import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { policyProtection, type ProtectionFacts, protectionOf } from "../../../src/controller/plan/rpo.ts";

const now = new Date("2026-11-21T12:00:00Z");
const base: ProtectionFacts = {
  machine: "shop/web",
  newestReady: null,
  rpoSeconds: 86_400,
  since: new Date("2026-11-01T00:00Z"),
  isCatalogKnown: true,
};

describe("protectionOf", () => {
  test.each<[string, Partial<ProtectionFacts>, string]>([
    [
      "young enough",
      { newestReady: new Date("2026-11-21T02:00Z") },
      "True WithinRPO, until 2026-11-22T02:00:00.001Z: the newest restore point is of 2026-11-21T02:00:00Z; the rpo is 1 d",
    ],
    [
      "exactly the rpo",
      { newestReady: new Date("2026-11-20T12:00Z") },
      "True WithinRPO, until 2026-11-21T12:00:00.001Z: the newest restore point is of 2026-11-20T12:00:00Z; the rpo is 1 d",
    ],
    [
      "too old",
      { newestReady: new Date("2026-11-20T10:26Z") },
      "False RPOMissed, breached: the newest restore point is of 2026-11-20T10:26:00Z, 1 d 1 h ago; the rpo is 1 d. Look at the last VirtualMachineBackup of shop/web",
    ],
    [
      "too old, and the repository is gone",
      { newestReady: new Date("2026-11-01T10:26Z"), isCatalogKnown: false },
      "False RPOMissed, breached: the newest restore point is of 2026-11-01T10:26:00Z, 20 d 1 h ago; the rpo is 1 d. Look at the last VirtualMachineBackup of shop/web",
    ],
    [
      "young, but the repository is gone",
      { newestReady: new Date("2026-11-21T02:00Z"), isCatalogKnown: false },
      "Unknown NotReadYet, until 2026-11-22T02:00:00.001Z: the newest restore point is of 2026-11-21T02:00:00Z, but the repository cannot be read to see that it is still there",
    ],
    [
      "of a clock that is ahead",
      { newestReady: new Date("2026-11-21T12:05Z") },
      "True WithinRPO, until 2026-11-22T12:05:00.001Z: the newest restore point is of 2026-11-21T12:05:00Z; the rpo is 1 d",
    ],
    ["never backed up", {}, "False NeverBackedUp, breached: shop/web has no restore point that is ready"],
    [
      "new",
      { since: new Date("2026-11-21T11:00Z") },
      "False NeverBackedUp, until 2026-11-22T11:00:00.001Z: shop/web has no restore point that is ready",
    ],
    [
      "nothing known",
      { isCatalogKnown: false },
      "Unknown NotReadYet: the repository cannot be read to see whether shop/web has a restore point",
    ],
    [
      "no rpo",
      { newestReady: new Date("2020-01-01"), rpoSeconds: null },
      "Unknown NoRPO: the newest restore point is of 2020-01-01T00:00:00Z; the policy has no rpo to measure it by",
    ],
    ["no rpo and no point", { rpoSeconds: null }, "False NeverBackedUp: shop/web has no restore point that is ready"],
  ])("%s", (_what, facts, expected) => {
    const { status, reason, message, breached, changesAt } = protectionOf({ ...base, ...facts }, now);
    const until = changesAt === null ? "" : `, until ${changesAt.toISOString()}`;
    expect(`${status} ${reason}${breached ? ", breached" : ""}${until}: ${message}`).toBe(expected);
  });

  test("nothing changes before it says so", () => {
    const time = fc.integer({ min: Date.UTC(2026, 10, 1), max: Date.UTC(2026, 10, 30) }).map((at) => new Date(at));
    fc.assert(
      fc.property(
        fc.option(time),
        fc.option(fc.integer({ min: 300, max: 1e6 })),
        time,
        fc.boolean(),
        (newestReady, rpoSeconds, since, isCatalogKnown) => {
          const facts = { ...base, newestReady, rpoSeconds, since, isCatalogKnown };
          const first = protectionOf(facts, now);
          const same = ({ status, reason, breached }: typeof first): unknown => [status, reason, breached];
          if (first.changesAt === null) {
            expect(same(protectionOf(facts, new Date("2036-01-01")))).toEqual(same(first));
          } else {
            expect(first.changesAt.getTime()).toBeGreaterThan(now.getTime());
            expect(same(protectionOf(facts, new Date(first.changesAt.getTime() - 1)))).toEqual(same(first));
          }
        },
      ),
    );
  });
});

describe("policyProtection", () => {
  const good = protectionOf({ ...base, newestReady: new Date("2026-11-21T02:00Z") }, now);
  const old = (machine: string): ReturnType<typeof protectionOf> =>
    protectionOf({ ...base, machine, newestReady: new Date("2026-11-01") }, now);
  const never = protectionOf({ ...base, machine: "shop/db" }, now);
  const unknown = protectionOf({ ...base, machine: "shop/x", isCatalogKnown: false }, now);
  const many = Array.from({ length: 7 }, (_, index) => old(`shop/vm-${7 - index}`));

  test.each([
    ["all", [good, good], "True WithinRPO: 2 of 2 virtual machines are protected"],
    ["some not", [good, never, unknown], "False NotBackedUp: 1 of 3 virtual machines are protected; not shop/db"],
    [
      "many not",
      [never, ...many],
      "False RPOMissed: 0 of 8 virtual machines are protected; not shop/db, shop/vm-1, shop/vm-2, shop/vm-3, shop/vm-4 and 3 more",
    ],
    [
      "some unknown",
      [good, unknown],
      "Unknown NotReadYet: 1 of 2 virtual machines are protected; not known of shop/x: the repository cannot be read to see whether shop/x has a restore point",
    ],
    ["none selected", [], "Unknown NothingSelected: no virtual machine is selected: look at selector and namespaces"],
  ])("%s", (_what, machines, expected) => {
    const { status, reason, message } = policyProtection(machines);
    expect(`${status} ${reason}: ${message}`).toBe(expected);
  });

  test("changes when the first of its machines does", () => {
    const sooner = protectionOf({ ...base, newestReady: new Date("2026-11-20T13:00Z") }, now);
    expect(policyProtection([good, sooner, never])).toMatchObject({
      matched: 3,
      protected: 2,
      changesAt: new Date("2026-11-21T13:00:00.001Z"),
      unprotected: [never],
    });
  });
});
