import { expect, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";
import { mapConcurrently } from "../../src/lib/concurrency.ts";

test("keeps the order of the items and the limit", async () => {
  let running = 0;
  let most = 0;
  const doubled = await mapConcurrently([5, 1, 4, 0, 3, 2], 3, async (ms) => {
    running += 1;
    most = Math.max(most, running);
    await systemClock.sleep(ms);
    running -= 1;
    return ms * 2;
  });
  expect(doubled).toEqual([10, 2, 8, 0, 6, 4]);
  expect(most).toBe(3);
});

test("after a failure starts nothing more and leaves nothing running", async () => {
  const started: number[] = [];
  let running = 0;
  const mapping = mapConcurrently([0, 1, 2, 3, 4, 5, 6, 7], 2, async (item) => {
    started.push(item);
    running += 1;
    await systemClock.sleep(item === 1 ? 1 : 20);
    running -= 1;
    if (item === 1) throw new Error("item 1");
  });
  await expect(mapping).rejects.toThrow("item 1");
  expect(started).toEqual([0, 1]);
  expect(running).toBe(0);
});

test("maps nothing to nothing", async () => {
  await expect(mapConcurrently([], 4, async () => 1)).resolves.toEqual([]);
});
