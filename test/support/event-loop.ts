import { monitorEventLoopDelay } from "node:perf_hooks";

import { availableParallelism, loadavg } from "node:os";

/** ms; how long one thing may hold the event loop (10), and what the clock's own grain adds (2). */
const LIMIT = 12;
const BUSY_LIMIT = 100;

/**
 * The bound on event loop delay that can be told from noise now: where other programs have the cores, a thread waits for its turn whatever it does.
 * Says so where it is not the strict one.
 */
export function eventLoopLimit(): number {
  const [load = 0] = loadavg();
  if (load <= 1.5 * availableParallelism()) return LIMIT;
  console.log(`load ${load.toFixed(1)} on ${availableParallelism()} cores: the event loop is held to ${BUSY_LIMIT} ms instead of ${LIMIT}`);
  return BUSY_LIMIT;
}

/** The 99th percentile of the event loop's delay in ms during `work`, in the calmest of some rounds: other processes delay it too. */
export async function quietest(work: () => Promise<void>): Promise<number> {
  let calmest = Infinity;
  for (let round = 0; round < 5 && calmest > 10; round += 1) {
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await work();
    delay.disable();
    calmest = Math.min(calmest, delay.percentile(99) / 1e6);
  }
  return calmest;
}
