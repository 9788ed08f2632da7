import { expect, test } from "vitest";
import { systemClock } from "../../src/lib/clock.ts";

test("sleeps about as long as asked", async () => {
  const start = systemClock.monotonic();
  await systemClock.sleep(30);
  expect(systemClock.monotonic() - start).toBeGreaterThanOrEqual(25);
});

test("an aborted sleep rejects at once with the reason itself", async () => {
  const abort = new AbortController();
  const reason = new Error("SIGINT");
  const sleeping = systemClock.sleep(600_000, abort.signal);
  abort.abort(reason);
  await expect(sleeping).rejects.toBe(reason);
  await expect(systemClock.sleep(600_000, abort.signal)).rejects.toBe(reason);
});
