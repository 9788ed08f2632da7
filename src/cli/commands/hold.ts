import type { Context, Outcome } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";

const DAY_MS = 24 * 3600 * 1000;

/** `thinstream hold`: keeps the volumes of its pod mounted until it is told to end. */
export async function hold(_flags: object, { signal }: Context): Promise<Outcome> {
  // A signal's listener alone keeps no process alive.
  const alive = setInterval(() => undefined, DAY_MS);
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  clearInterval(alive);
  return { json: { held: false }, text: "The volumes are not held any more", exitCode: ExitCode.ok };
}
