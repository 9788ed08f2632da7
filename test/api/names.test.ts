import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { annotations, labels, labelValue, restorePointName, scheduledRunName, triggeredRunName } from "../../src/api/index.ts";

const dnsLabel = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const letters = "abcdefghijklmnopqrstuvwxyz0123456789".split("");
const label = (max: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...letters, "-"), minLength: 1, maxLength: max }).map((text) => text.replace(/^-+|-+$/g, "") || "a");
/** Names Kubernetes allows: short ones with few letters, where two collide easily, and long ones. */
const name = fc.oneof(
  fc.string({ unit: fc.constantFrom("a", "b", "-"), minLength: 1, maxLength: 5 }).map((text) => text.replace(/^-+|-+$/g, "") || "a"),
  label(63),
  fc.array(label(60), { minLength: 1, maxLength: 4 }).map((parts) => parts.join(".")),
);
const time = fc.date({ min: new Date("2020-01-01"), max: new Date("2100-01-01"), noInvalidDate: true });
const second = (moment: Date): number => Math.floor(moment.getTime() / 1000);

describe("the name of a run", () => {
  test.each([
    ["nightly", "web1", "2026-11-21T02:15:00Z", "nightly-web1-20261121-021500"],
    ["prod-nightly", "web1", "2026-11-21T02:15:00Z", /^prod-nightly-web1-20261121-021500-[0-9a-z]{8}$/],
    ["nightly", "v".repeat(63), "2026-11-21T02:15:00Z", /^nightly-v{30}-20261121-021500-[0-9a-z]{8}$/],
    ["nightly", "db.example", "2026-11-21T02:15:00Z", /^nightly-db-example-20261121-021500-[0-9a-z]{8}$/],
  ])("%s of %s", (policy, vm, at, expected) => {
    expect(scheduledRunName(policy, vm, new Date(at))).toMatch(typeof expected === "string" ? new RegExp(`^${expected}$`) : expected);
  });

  test("is a DNS label, and the same every time", () => {
    fc.assert(
      fc.property(name, name, time, (policy, vm, at) => {
        expect(scheduledRunName(policy, vm, at)).toMatch(dnsLabel);
        expect(scheduledRunName(policy, vm, new Date(at))).toBe(scheduledRunName(policy, vm, at));
      }),
    );
  });

  test("differs for other policies, machines and seconds", () => {
    const input = fc.tuple(name, name, time);
    fc.assert(
      fc.property(input, input, fc.nat(7), ([policyA, vmA, timeA], other, same) => {
        // Some of the parts are the same, and the rest may happen to be.
        const [policyB, vmB, timeB] = [same & 1 ? policyA : other[0], same & 2 ? vmA : other[1], same & 4 ? timeA : other[2]];
        const equal = policyA === policyB && vmA === vmB && second(timeA) === second(timeB);
        expect(scheduledRunName(policyA, vmA, timeA) === scheduledRunName(policyB, vmB, timeB)).toBe(equal);
      }),
      { numRuns: 2000 },
    );
  });

  test("differs where the parts joined are the same", () => {
    const at = new Date("2026-11-21T02:15:00Z");
    expect(scheduledRunName("a-b", "c", at)).not.toBe(scheduledRunName("a", "b-c", at));
    expect(scheduledRunName("a", "b-c", at)).toBe("a-b-c-20261121-021500");
  });

  test("differs where only what was cut off differs", () => {
    const at = new Date("2026-11-21T02:15:00Z");
    expect(scheduledRunName("p", `${"v".repeat(62)}1`, at)).not.toBe(scheduledRunName("p", `${"v".repeat(62)}2`, at));
  });
});

test("the name of a triggered run has the hash of the trigger's text, and is no scheduled one's", () => {
  expect(triggeredRunName("nightly", "web", "2026-11-21")).toMatch(/^nightly-web-m[0-9a-z]{8}$/);
  fc.assert(
    fc.property(name, name, fc.string(), fc.string(), (policy, vm, one, other) => {
      const made = triggeredRunName(policy, vm, one);
      expect(made).toMatch(dnsLabel);
      expect(made === triggeredRunName(policy, vm, other)).toBe(one === other);
      expect(made).not.toBe(triggeredRunName(vm, `${policy}x`, one));
    }),
  );
});

test("restorePointName is a DNS label and tells repositories, points and machines apart", () => {
  const input = fc.tuple(name, name, label(32));
  fc.assert(
    fc.property(input, input, time, (a, b, at) => {
      const [one, other] = [a, b].map(([vm, repository, pointId]) => restorePointName(vm, at, { repository, pointId }));
      expect(one).toMatch(dnsLabel);
      expect(one === other).toBe(JSON.stringify(a) === JSON.stringify(b));
    }),
  );
});

test("labelValue keeps what fits and is always a label's value", () => {
  fc.assert(
    fc.property(fc.oneof(name, fc.string()), (given) => {
      const value = labelValue(given);
      expect(value).toMatch(/^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$/);
      if (dnsLabel.test(given)) expect(value).toBe(given);
    }),
  );
});

test("label and annotation keys are Kubernetes' own form, each once", () => {
  const keys = [...Object.values(labels), ...Object.values(annotations)];
  expect(new Set(keys).size).toBe(keys.length);
  expect(keys.filter((key) => !/^thinstream\.dev\/[a-z]([-a-z]*[a-z])?$/.test(key))).toEqual([]);
});
