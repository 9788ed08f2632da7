import { availableParallelism, loadavg } from "node:os";

/** Load for each core up to which a machine counts as calm: what a lab starts is about two by itself. */
const CALM = 2;

/**
 * How many times as long as on a calm machine something may take now: the cores are shared with whatever else runs. Says so where that is not once, so that
 * a figure is not taken for what it is not.
 */
export function patience(): number {
  const [load = 0] = loadavg();
  const share = load / availableParallelism();
  if (share <= CALM) return 1;
  const times = Math.ceil(share);
  console.log(`load ${load.toFixed(1)} on ${availableParallelism()} cores: things may take ${times} times as long`);
  return times;
}
