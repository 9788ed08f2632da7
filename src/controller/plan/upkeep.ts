import { parseCron } from "./cron.ts";

/** When something that is to be done by a schedule was done. */
export interface UpkeepHistory {
  /** when whatever asks for it was made */
  readonly since: Date;
  /** when it was last tried to its end; null: never */
  readonly attempt: Date | null;
  readonly succeeded: boolean;
}

export interface UpkeepPlan {
  readonly isDue: boolean;
  /** when it is due next, if it is not now or is done at once; null: never */
  readonly next: Date | null;
}

/** ms after which what failed is tried again, where its next time is not sooner */
const RETRY_MS = 60 * 60_000;

/** Whether something is due: its first time after it was last tried has come. Times that passed meanwhile count once. Throws `InvalidValueError`. */
export function planUpkeep(schedule: string, timeZone: string, { since, attempt, succeeded }: UpkeepHistory, now: Date): UpkeepPlan {
  const ticks = parseCron(schedule, timeZone);
  const first = ticks.next(attempt ?? since);
  const retry = attempt === null || succeeded ? null : new Date(attempt.getTime() + RETRY_MS);
  const due = [first, retry].filter((time) => time !== null).toSorted((a, b) => a.getTime() - b.getTime())[0] ?? null;
  const isDue = due !== null && due <= now;
  return { isDue, next: isDue ? ticks.next(now) : due };
}
