import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { Semaphore } from "../../src/lib/semaphore.ts";

describe("Semaphore", () => {
  test("never hands out more than its capacity, and loses nothing, whatever order work starts, fails and aborts in", async () => {
    const job = fc.record({
      amount: fc.integer({ min: 1, max: 7 }),
      ms: fc.integer({ min: 0, max: 3 }),
      end: fc.constantFrom("ok", "fail", "abort"),
    });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 5 }), fc.array(job, { maxLength: 20 }), async (capacity, jobs) => {
        const semaphore = new Semaphore(capacity);
        let held = 0;
        let most = 0;
        const runs = jobs.map(async ({ amount, ms, end }) => {
          const abort = new AbortController();
          if (end === "abort") setTimeout(() => abort.abort(new Error("abort")), ms);
          const work = async (): Promise<void> => {
            const units = Math.min(amount, capacity);
            held += units;
            most = Math.max(most, held);
            await systemClock.sleep(ms);
            held -= units;
            if (end === "fail") throw new Error("fail");
          };
          await semaphore.run(work, abort.signal, amount);
        });
        await Promise.allSettled(runs);
        expect(most).toBeLessThanOrEqual(capacity);
        expect(semaphore.free).toBe(capacity);
      }),
      { numRuns: 60 },
    );
  });

  test("serves in order: small requests do not starve a large one", async () => {
    const semaphore = new Semaphore(3);
    const order: string[] = [];
    const first = await semaphore.acquire(undefined, 2);
    const large = semaphore.run(async () => void order.push("large"), undefined, 3);
    const small = semaphore.run(async () => void order.push("small"), undefined, 1);
    first();
    await Promise.all([large, small]);
    expect(order).toEqual(["large", "small"]);
  });

  test("a large request that gives up lets those behind it pass", async () => {
    const semaphore = new Semaphore(2);
    const abort = new AbortController();
    const first = await semaphore.acquire();
    const large = semaphore.acquire(abort.signal, 2);
    const small = semaphore.acquire();
    abort.abort(new Error("gave up"));
    await expect(large).rejects.toThrow("gave up");
    (await small)();
    first();
    expect(semaphore.free).toBe(2);
  });

  test("giving back twice counts once", async () => {
    const semaphore = new Semaphore(2);
    const release = await semaphore.acquire();
    release();
    release();
    expect(semaphore.free).toBe(2);
  });

  test("refuses a capacity that could never be served", () => {
    expect(() => new Semaphore(0)).toThrow(RangeError);
  });
});
