import { appendFileSync, existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

const LOOK_MS = 50;

/**
 * For tests that kill or disturb a run between any two steps of its protocol: THINSTREAM_STEPS names a file that takes the name of every step reached, and
 * THINSTREAM_PAUSE_AT a step at which the run waits to be killed, to be interrupted, or for that file to be removed. Without them nothing happens.
 */
export function stepHook(signal: AbortSignal): (step: string) => Promise<void> {
  const [file, pauseAt] = [process.env["THINSTREAM_STEPS"], process.env["THINSTREAM_PAUSE_AT"]];
  return async (step) => {
    if (file === undefined) return;
    appendFileSync(file, `${step}\n`);
    if (step !== pauseAt) return;
    while (existsSync(file) && !signal.aborted) await delay(LOOK_MS);
  };
}
