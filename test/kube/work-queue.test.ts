import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WorkQueue } from "../../src/kube/index.ts";
import { KeyQueue } from "../../src/kube/key-queue.ts";

type Step = { readonly do: "add"; readonly key: string } | { readonly do: "take" } | { readonly do: "done"; readonly place: number };

const keys = fc.constantFrom("a", "b", "c", "d");
const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant("add" as const), key: keys }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("take" as const) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("done" as const), place: fc.nat(3) }) },
  ),
  { maxLength: 60 },
);

/** The same, as plainly as can be said: one list in order, one of what is in hand, one of what came again. */
class Model {
  readonly line: string[] = [];
  readonly hand: string[] = [];
  readonly again: string[] = [];

  add(key: string): void {
    const into = this.hand.includes(key) ? this.again : this.line;
    if (!into.includes(key)) into.push(key);
  }

  take(): string | undefined {
    const key = this.line.shift();
    if (key !== undefined) this.hand.push(key);
    return key;
  }

  done(key: string): void {
    this.hand.splice(this.hand.indexOf(key), 1);
    if (this.again.includes(key)) this.line.push(...this.again.splice(this.again.indexOf(key), 1));
  }
}

describe("keys in line", () => {
  test("are there once, in their order, and never in two hands", () => {
    fc.assert(
      fc.property(steps, (story: readonly Step[]) => {
        const queue = new KeyQueue();
        const model = new Model();
        for (const step of story) {
          if (step.do === "add") {
            queue.add(step.key, 0);
            model.add(step.key);
          } else if (step.do === "take") {
            const inHand = [...model.hand];
            const taken = queue.take()?.key;
            expect(taken).toBe(model.take());
            expect(inHand).not.toContain(taken);
          } else {
            const key = model.hand[step.place % Math.max(1, model.hand.length)];
            if (key === undefined) continue;
            queue.done(key);
            model.done(key);
          }
          expect([queue.depth, queue.inHand]).toEqual([model.line.length, model.hand.length]);
        }
      }),
    );
  });
});

describe("a work queue", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test("works on every key after its last change, on none twice at once, whatever the order of things", async () => {
    const actions = fc.array(fc.record({ key: keys, afterMs: fc.nat(50), delayMs: fc.option(fc.nat(100), { nil: 0 }) }), { maxLength: 40 });
    const property = fc.asyncProperty(actions, fc.integer({ min: 1, max: 3 }), fc.nat(30), async (story, workers, workMs) => {
      const busy = new Set<string>();
      const lastStart = new Map<string, number>();
      const lastDue = new Map<string, number>();
      let peak = 0;
      const queue = new WorkQueue({
        name: "test",
        workers,
        work: async (key) => {
          expect(busy.has(key)).toBe(false);
          busy.add(key);
          peak = Math.max(peak, busy.size);
          lastStart.set(key, performance.now());
          await new Promise((resolve) => setTimeout(resolve, workMs));
          busy.delete(key);
        },
      });
      const aborter = new AbortController();
      const run = queue.run(aborter.signal);
      for (const { key, afterMs, delayMs } of story) {
        await vi.advanceTimersByTimeAsync(afterMs);
        queue.addAfter(key, delayMs);
        // Of several times the soonest counts, so a later one may be served by an earlier.
        lastDue.set(key, Math.max(lastDue.get(key) ?? 0, performance.now()));
      }
      await vi.advanceTimersByTimeAsync(10_000);
      for (const [key, due] of lastDue) expect(lastStart.get(key)).toBeGreaterThanOrEqual(due);
      expect(peak).toBeLessThanOrEqual(workers);
      expect(queue.figures).toMatchObject({ depth: 0, inHand: 0, delayed: 0, failed: 0 });
      aborter.abort();
      await run;
    });
    await fc.assert(property, { numRuns: 60 });
  });

  test("waits longer after each failure, up to its cap, and forgets them after a success", async () => {
    const starts: number[] = [];
    let fails = true;
    const queue = new WorkQueue({
      name: "test",
      baseMs: 100,
      maxMs: 2000,
      work: async () => {
        starts.push(performance.now());
        if (fails) throw new Error("not yet");
        return Promise.resolve();
      },
    });
    const aborter = new AbortController();
    const run = queue.run(aborter.signal);
    queue.add("a");
    await vi.advanceTimersByTimeAsync(60_000);
    const waits = starts.slice(1).map((at, place) => at - (starts[place] ?? 0));
    expect(waits.length).toBeGreaterThan(25);
    for (const [place, wait] of waits.entries()) {
      const full = Math.min(2000, 100 * 2 ** place);
      expect(wait).toBeGreaterThanOrEqual(full / 2 - 1);
      expect(wait).toBeLessThanOrEqual(full + 1);
    }
    fails = false;
    await vi.advanceTimersByTimeAsync(5000);
    const count = starts.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(starts).toHaveLength(count);
    fails = true;
    queue.add("a");
    await vi.advanceTimersByTimeAsync(101);
    expect(starts).toHaveLength(count + 2);
    expect(queue.figures.failed).toBe(queue.figures.done - 1);
    aborter.abort();
    await run;
  });

  test("takes the soonest of several times, asks again when told to, and forgets", async () => {
    const starts: number[] = [];
    const queue = new WorkQueue({
      name: "test",
      work: () => Promise.resolve(void starts.push(performance.now())),
    });
    const aborter = new AbortController();
    const run = queue.run(aborter.signal);
    const since = performance.now();
    queue.addAfter("a", 5000);
    queue.addAfter("a", 1000);
    queue.addAfter("a", 3000);
    queue.addAfter("month", 31 * 24 * 3600 * 1000);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(starts.map((at) => at - since)).toEqual([1000]);
    await vi.advanceTimersByTimeAsync(31 * 24 * 3600 * 1000);
    expect(starts).toHaveLength(2);
    queue.addAfter("a", 1000);
    queue.forget("a");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(starts).toHaveLength(2);
    aborter.abort();
    await run;
  });

  test("lets work under way end when it stops, takes up nothing new, and then gives the sign to stop", async () => {
    const begun: string[] = [];
    const ended: string[] = [];
    const queue = new WorkQueue({
      name: "test",
      workers: 2,
      drainMs: 1000,
      work: async (key, signal) => {
        begun.push(key);
        await new Promise<void>((resolve) => {
          signal.addEventListener("abort", () => resolve());
          if (key === "short") setTimeout(resolve, 500);
        });
        ended.push(`${key}${signal.aborted ? " (told)" : ""}`);
      },
    });
    const aborter = new AbortController();
    const run = queue.run(aborter.signal);
    for (const key of ["short", "long", "never"]) queue.add(key);
    queue.addAfter("later", 100);
    await vi.advanceTimersByTimeAsync(50);
    expect(queue.figures).toMatchObject({ depth: 1, inHand: 2, delayed: 1, oldestMs: 50, longestRunningMs: 50 });
    aborter.abort();
    await vi.advanceTimersByTimeAsync(2000);
    await run;
    queue.add("too late");
    await vi.advanceTimersByTimeAsync(2000);
    expect([begun, ended]).toEqual([
      ["short", "long"],
      ["short", "long (told)"],
    ]);
    expect(queue.figures).toMatchObject({ depth: 0, inHand: 0, delayed: 0, done: 2 });
  });

  test("comes again to a key after the time its work asked for", async () => {
    const starts: number[] = [];
    const queue = new WorkQueue({
      name: "test",
      work: () => Promise.resolve(starts.push(performance.now()) < 3 ? { againInMs: 60_000 } : undefined),
    });
    const aborter = new AbortController();
    const run = queue.run(aborter.signal);
    queue.add("a");
    await vi.advanceTimersByTimeAsync(600_000);
    expect(starts.map((at) => at - (starts[0] ?? 0))).toEqual([0, 60_000, 120_000]);
    aborter.abort();
    await run;
  });
});

describe("a queue whose work waits for nothing", () => {
  test("lets the event loop turn all the same", async () => {
    const done: string[] = [];
    const queue = new WorkQueue({
      name: "test",
      work: (key) => {
        const until = performance.now() + 2;
        while (performance.now() < until);
        done.push(key);
        return Promise.resolve();
      },
    });
    for (let place = 0; place < 200; place += 1) queue.add(`key-${place}`);
    const aborter = new AbortController();
    const run = queue.run(aborter.signal);
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(done.length).toBeLessThan(100);
    await expect.poll(() => done.length).toBe(200);
    aborter.abort();
    await run;
  });
});
