import { extendLocks, type LockProgress, type LockReport, type Named } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { StepDisplay } from "../progress.ts";

export interface LockFlags extends RepositoryFlags {
  /** seconds */
  readonly for: number;
  readonly mode?: "governance" | "compliance";
  readonly requests: number;
  readonly verify?: true;
  readonly dryRun?: true;
}

const STEPS = { mark: "Looking at restore points", list: "Listing versions", lock: "Extending locks" } as const;

/** `thinstream lock`: extends the locks of what restore points need. Needs the right to change retention in the store. */
export async function lock(flags: LockFlags, context: Context): Promise<Outcome> {
  return await withRepository(flags, context, async (repository) => {
    const steps = new StepDisplay(STEPS);
    const { dryRun = false, verify = false, mode } = flags;
    const report = await extendLocks(repository, {
      periodMs: flags.for * 1000,
      budget: flags.requests,
      ...(mode === undefined ? {} : { mode }),
      verify,
      dryRun,
      signal: context.signal,
      onProgress: (progress: LockProgress) => steps.update(progress),
    }).finally(() => steps.end());
    return { json: { dryRun, ...report }, text: textOf(report, dryRun), exitCode: exitCodeOf(report, dryRun) };
  });
}

function exitCodeOf(report: LockReport, dryRun: boolean): ExitCode {
  const { missing, overwritten, hidden, unclear, unlocked } = report;
  const isBad = [missing, overwritten, hidden].some(({ objects }) => objects > 0) || unclear.length > 0;
  if (isBad || (unlocked > 0 && !dryRun)) return ExitCode.failed;
  return report.left > 0 || report.lapsed > 0 || report.distrusted ? ExitCode.warnings : ExitCode.ok;
}

function textOf(report: LockReport, dryRun: boolean): string {
  const { points, locked, soonest, renewed, requests, unlocked, released } = report;
  const sum = locked.reduce((all, { objects }) => all + objects, 0);
  return [
    `${points} restore points count; ${sum} objects that they need are locked${soonest === null ? "" : `, all of them until ${day(soonest)} at least`}`,
    ...locked.slice(0, 5).map(({ until, objects }) => `  ${until}  ${objects}`),
    ...(locked.length > 5 ? [`  later       ${locked.slice(5).reduce((all, { objects }) => all + objects, 0)}`] : []),
    `${dryRun ? "Would extend" : "Extended"} the locks of ${renewed} objects until ${day(report.until)}, with ${requests} requests for single objects`,
    ...(released.until === null
      ? []
      : [`${released.objects} objects are needed no more; the last of their locks ends on ${day(released.until)}`]),
    ...warnings(report),
    ...(unlocked > 0 ? [`NOT LOCKED: ${unlocked} objects that restore points need`] : []),
    ...alarm(report.overwritten, "OVERWRITTEN: objects that are written only once were written again; what was first is kept locked"),
    ...alarm(report.hidden, "DELETED: objects that are needed are hidden by a delete marker; what is behind it is kept locked"),
    ...alarm(report.missing, "MISSING: objects that are needed are not there, nor any version of them"),
    ...(report.unclear.length === 0
      ? []
      : [
          "Nobody can tell what these restore points need, so that everything that is stored was kept locked; bring them back, or forget them:",
          ...report.unclear.map(({ id, reason }) => `  ${id}: ${reason}`),
        ]),
  ].join("\n");
}

function warnings({ left, lapsed, distrusted }: LockReport): string[] {
  return [
    ...(left > 0
      ? [`Warning: ${left} more objects are due, and the requests did not suffice: run this again, more often, or with more --requests`]
      : []),
    ...(lapsed > 0
      ? [`Warning: the locks of ${lapsed} objects had ended before this run, though they are needed: run it every day, or lock for longer`]
      : []),
    ...(distrusted ? ["Warning: what earlier runs had written down of the locks was not true; every lock was asked for anew"] : []),
  ];
}

function alarm({ objects, keys }: Named, what: string): string[] {
  if (objects === 0) return [];
  return [`${what} (${objects}):`, ...keys.map((key) => `  ${key}`), ...(objects > keys.length ? ["  …"] : [])];
}

function day(time: Date): string {
  return `${time.toISOString().slice(0, 16)}Z`;
}
