import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planStarts, type Run, type RunLimits } from "../../../src/controller/plan/concurrency.ts";

let made = 0;
function run(policy: string | null, minute: number, more: Partial<Run> = {}): Run {
  made += 1;
  const createdAt = new Date(Date.UTC(2026, 10, 21, 0, minute));
  return { id: `${policy ?? "manual"}-${minute}`, machine: `shop/${made}`, policy, node: "n1", repository: "r", createdAt, ...more };
}

function limits(policy?: number, node?: number, repository?: number): RunLimits {
  return { perPolicy: () => policy, perNode: () => node, perRepository: () => repository };
}

function started(pending: readonly Run[], running: readonly Run[], most: RunLimits): string[] {
  return planStarts(pending, running, most).start.map(({ id }) => id);
}

describe("planStarts", () => {
  test("without limits everything starts, in turns of the policies", () => {
    expect(started([run("b", 3), run("a", 0), run("a", 1), run("a", 2), run("b", 4)], [], limits())).toEqual([
      "a-0",
      "b-3",
      "a-1",
      "b-4",
      "a-2",
    ]);
  });

  test("each limit is named by what it limits", () => {
    const running = [run("a", 0), run("a", 1, { node: "n2" })];
    const waits = (pending: Run, most: RunLimits): string => {
      const { start, waiting } = planStarts([pending], running, most);
      return start.length > 0 ? "starts" : `${waiting[0]?.reason}: ${waiting[0]?.message}`;
    };
    expect(waits(run("a", 2), limits(2))).toBe("PolicyLimit: waits for its turn: policy a may have 2 runs under way, and has");
    expect(waits(run("b", 2), limits(2))).toBe("starts");
    expect(waits(run("b", 2), limits(9, 1))).toBe("NodeLimit: waits for its turn: node n1 may have 1 run under way, and has");
    expect(waits(run("b", 2, { node: "n3" }), limits(9, 1))).toBe("starts");
    expect(waits(run("b", 2, { node: null }), limits(9, 1))).toBe("starts");
    expect(waits(run("b", 2), limits(9, 9, 2))).toBe(
      "RepositoryLimit: waits for its turn: repository r may have 2 runs under way, and has",
    );
    expect(waits(run("b", 2, { repository: "r2" }), limits(9, 9, 2))).toBe("starts");
    expect(waits(run("b", 2, { machine: running[0]?.machine ?? "" }), limits())).toBe(
      `MachineBusy: waits until the run of ${running[0]?.machine} that is under way ends`,
    );
    expect(waits(run(null, 2), limits(0))).toBe("starts");
  });

  test("the cluster's limit is for all of them, and the rest wait for it", () => {
    const pending = [run("a", 0), run("b", 1), run(null, 2), run("a", 3)];
    const plan = planStarts(pending, [run("c", 0)], { ...limits(), inAll: 3 });
    expect(plan.start.map(({ id }) => id)).toEqual(["a-0", "b-1"]);
    expect(plan.waiting.map(({ run: { id }, reason, message }) => `${id} ${reason}: ${message}`)).toEqual([
      "manual-2 ClusterLimit: waits for its turn: the cluster may have 3 runs under way, and has",
      "a-3 ClusterLimit: waits for its turn: the cluster may have 3 runs under way, and has",
    ]);
  });

  test("a run that waits for its node holds up none behind it", () => {
    expect(started([run("a", 0), run("a", 1), run("a", 2, { node: "n2" })], [run("b", 0)], limits(9, 1))).toEqual(["a-2"]);
  });

  test("of two runs of one machine the older starts, whatever their policies", () => {
    expect(started([run("a", 1, { machine: "shop/web" }), run("b", 0, { machine: "shop/web" })], [], limits())).toEqual(["b-0"]);
  });

  test("a policy of many machines keeps no other waiting", () => {
    const many = Array.from({ length: 50 }, (_, minute) => run("big", minute));
    expect(started([...many, run("small", 59)], [run("big", 0), run("big", 0)], limits(99, 3))).toEqual(["small-59"]);
  });

  test("runs of no policy count by namespace", () => {
    const crowd = Array.from({ length: 9 }, (_, minute) => run(null, minute));
    expect(started([...crowd, run(null, 50, { machine: "bank/db", id: "bank" })], [], limits(9, 2))).toEqual(["manual-0", "bank"]);
  });
});

const runs = fc.array(
  fc.record({
    machine: fc.integer({ min: 0, max: 15 }).map((index) => `ns${index % 3}/vm-${index}`),
    policy: fc.constantFrom("a", "b", "c", null),
    node: fc.constantFrom("n1", "n2", null),
    repository: fc.constantFrom("r1", "r2"),
    minute: fc.integer({ min: 0, max: 30 }),
  }),
  { maxLength: 40 },
);
const someLimits = fc
  .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 6 }))
  .map((each) => limits(...each));

function runsOf(
  all: readonly {
    readonly machine: string;
    readonly policy: string | null;
    readonly node: string | null;
    readonly repository: string;
    readonly minute: number;
  }[],
): Run[] {
  return all.map(({ minute, ...rest }, index) => ({ ...rest, id: `${index}`, createdAt: new Date(minute * 60_000) }));
}

describe("always", () => {
  test("no limit is broken, nothing is forgotten, and nothing that could start waits", () => {
    fc.assert(
      fc.property(runs, runs, someLimits, (first, second, most) => {
        const under = planStarts(runsOf(first), [], most).start.map((one) => ({ ...one, id: `running ${one.id}` }));
        const pending = runsOf(second);
        const { start, waiting } = planStarts(pending, under, most);
        expect([...start, ...waiting.map((one) => one.run)].map(({ id }) => id).toSorted()).toEqual(pending.map(({ id }) => id).toSorted());
        const all = [...under, ...start];
        for (const one of all) {
          expect(all.filter(({ machine }) => machine === one.machine)).toHaveLength(1);
          if (one.policy !== null)
            expect(all.filter(({ policy }) => policy === one.policy).length).toBeLessThanOrEqual(most.perPolicy("") ?? 0);
          if (one.node !== null) expect(all.filter(({ node }) => node === one.node).length).toBeLessThanOrEqual(most.perNode("") ?? 0);
          expect(all.filter(({ repository }) => repository === one.repository).length).toBeLessThanOrEqual(most.perRepository("") ?? 0);
        }
        expect(
          planStarts(
            waiting.map((one) => one.run),
            all,
            most,
          ).start,
        ).toEqual([]);
      }),
    );
  });

  test("whatever its order, the same facts start the same runs", () => {
    fc.assert(
      fc.property(runs, someLimits, (some, most) => {
        const pending = runsOf(some);
        expect(started(pending.toReversed(), [], most)).toEqual(started(pending, [], most));
      }),
    );
  });

  test("no run starves while others keep coming: it starts before as many others as a fair share allows", () => {
    fc.assert(
      fc.property(fc.constantFrom("a", "b"), fc.integer({ min: 1, max: 3 }), (policy, slots) => {
        const old = run(policy, 0, { id: "old" });
        let pending = [old, ...Array.from({ length: 20 }, (_, minute) => run("flood", minute + 1))];
        let running: Run[] = Array.from({ length: slots }, (_, minute) => run("flood", minute + 1));
        for (let round = 0; round < 3; round += 1) {
          const { start } = planStarts(pending, running.slice(1), limits(99, slots));
          if (start.includes(old)) return;
          pending = [...pending.filter((one) => !start.includes(one)), run("flood", 100 + round)];
          running = [...running.slice(1), ...start];
        }
        expect.unreachable("the old run did not start in three rounds");
      }),
    );
  });
});

test("5,000 pending runs of 100 policies are planned within seconds", () => {
  const pending = Array.from({ length: 5000 }, (_, index) =>
    run(`policy-${index % 100}`, index, { id: `${index}`, node: `n${index % 50}` }),
  );
  const begun = performance.now();
  const { start } = planStarts(pending, [], limits(10, 2));
  expect(performance.now() - begun).toBeLessThan(2500);
  expect(start).toHaveLength(100);
});
