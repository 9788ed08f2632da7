import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Condition,
  type ConditionOf,
  dropCondition,
  findCondition,
  kinds,
  rfc3339,
  setCondition,
  unprotectedReasons,
  type virtualMachineBackupReasons,
} from "../../src/api/index.ts";

const status = fc.constantFrom("True", "False", "Unknown");
const saying = fc.record({
  type: fc.constantFrom("Ready", "Reachable", "Stalled"),
  status,
  reason: fc.constantFrom("A", "B"),
  message: fc.constantFrom("", "x"),
});
const step = fc.record({ saying, generation: fc.nat(3), later: fc.integer({ min: 0, max: 5000 }) });

describe("setCondition", () => {
  test("keeps one of each type, in place, with the time its status last changed", () => {
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        let now = Date.UTC(2026, 0, 1);
        let conditions: readonly Condition[] = [];
        const changed = new Map<string, { status: string; at: string }>();
        for (const { saying: said, generation, later } of steps) {
          now += later;
          const at = rfc3339(new Date(now));
          if (changed.get(said.type)?.status !== said.status) changed.set(said.type, { status: said.status, at });
          const before = conditions;
          conditions = setCondition(before, said, { now: new Date(now), generation });
          expect(conditions.find(({ type }) => type === said.type)).toEqual({
            ...said,
            observedGeneration: generation,
            lastTransitionTime: changed.get(said.type)?.at,
          });
          const others = (list: readonly Condition[]): readonly Condition[] => list.filter(({ type }) => type !== said.type);
          expect(others(conditions)).toEqual(others(before));
          expect(conditions.map(({ type }) => type)).toEqual([...changed.keys()]);
        }
      }),
    );
  });

  test("gives the same list back where nothing changed, so that nothing is written", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1 }), fc.nat(1e6), (steps, later) => {
        const now = new Date(Date.UTC(2026, 0, 1));
        const conditions = steps.reduce<readonly Condition[]>(
          (list, { saying: said, generation }) => setCondition(list, said, { now, generation }),
          [],
        );
        for (const { type, status: was, reason, message, observedGeneration } of conditions) {
          const again = { now: new Date(now.getTime() + later), generation: observedGeneration ?? 0 };
          expect(setCondition(conditions, { type, status: was, reason, message }, again)).toBe(conditions);
        }
      }),
    );
  });

  test("never changes the list it is given", () => {
    const given = Object.freeze([
      Object.freeze({ type: "Ready", status: "True", reason: "A", message: "", lastTransitionTime: "2026-01-01T00:00:00Z" } as const),
    ]);
    const next = setCondition<Condition>(
      given,
      { type: "Ready", status: "False", reason: "B", message: "" },
      { now: new Date(0), generation: 1 },
    );
    expect(next[0]?.lastTransitionTime).toBe("1970-01-01T00:00:00Z");
    expect(given[0]?.status).toBe("True");
  });

  test("takes only reasons of the type", () => {
    type Run = ConditionOf<typeof virtualMachineBackupReasons>;
    const at = { now: new Date(0), generation: 1 };
    const run = setCondition<Run>(undefined, { type: "Succeeded", status: "True", reason: "Completed", message: "" }, at);
    // @ts-expect-error Stalled knows no such reason
    setCondition<Run>(run, { type: "Stalled", status: "True", reason: "Completed", message: "" }, at);
    expect(findCondition(run, "Succeeded")?.reason).toBe("Completed");
    expect(findCondition(run, "Stalled")).toBeUndefined();
    expect(dropCondition(run, "Succeeded")).toEqual([]);
    expect(dropCondition(run, "Stalled")).toBe(run);
  });
});

describe.each(kinds.map((kind) => [kind.kind, kind] as const))("the reasons of %s", (_name, { reasons, scope, kind }) => {
  test("are words in PascalCase, each once", () => {
    for (const list of [...Object.values(reasons), unprotectedReasons]) {
      expect(list.filter((reason) => !/^[A-Z][A-Za-z]*$/.test(reason))).toEqual([]);
      expect(new Set(list).size).toBe(list.length);
    }
  });

  test("have one summary, and what stalls an object shows in it", () => {
    const summary = reasons["Ready"] ?? reasons["Succeeded"] ?? [];
    expect("Ready" in reasons).toBe(!["VirtualMachineBackup", "RestoreRequest"].includes(kind));
    expect(reasons["Stalled"]?.filter((reason) => !summary.includes(reason))).toEqual([]);
    expect(scope).toMatch(/^(Cluster|Namespaced)$/);
  });
});
