import { createHash } from "node:crypto";
import { parseCron, type Ticks } from "./cron.ts";
import { type BackupWindow, windowState } from "./window.ts";

/** What a policy says about when. */
export interface PolicySchedule {
  readonly uid: string;
  /** When the policy was made: it has no scheduled times before. */
  readonly createdAt: Date;
  /** Null: on the manual trigger alone. */
  readonly schedule: string | null;
  readonly timeZone: string;
  readonly suspend: boolean;
  readonly jitterSeconds: number;
  /** Null: however late. */
  readonly startingDeadlineSeconds: number | null;
  readonly window: BackupWindow | null;
  /** The manual trigger's text. */
  readonly trigger: string | null;
}

/** A virtual machine that the policy selects. */
export interface ScheduledMachine {
  readonly uid: string;
  readonly createdAt: Date;
  /** The latest scheduled time that a run of this policy was made for, or that was counted as missed. */
  readonly lastTick: Date | null;
  /** The trigger's text that a run of this policy was last made for. */
  readonly lastTrigger: string | null;
  /** Whether a run of it is under way: then none is added. */
  readonly active: boolean;
}

/** A run to make now. */
export interface DueRun<Machine extends ScheduledMachine = ScheduledMachine> {
  readonly machine: Machine;
  /** The scheduled time, without jitter; null for the manual trigger. The run's name follows from it. */
  readonly tick: Date | null;
  /** Earlier scheduled times that this run stands for too; 100 stands for more. */
  readonly missed: number;
}

/** Why a scheduled time passed without a run: the controller looked too late, an earlier run went on, or the window opens too late. */
export type MissedReason = "TooLate" | "StillRunning" | "OutsideWindow";

/** A scheduled time whose starting deadline passes: no run is made for it. */
export interface MissedRun<Machine extends ScheduledMachine = ScheduledMachine> {
  readonly machine: Machine;
  readonly tick: Date;
  readonly reason: MissedReason;
  /** How many times passed without a run, this one included; 100 stands for more. */
  readonly missed: number;
}

export interface SchedulePlan<Machine extends ScheduledMachine = ScheduledMachine> {
  readonly due: readonly DueRun<Machine>[];
  readonly missed: readonly MissedRun<Machine>[];
  /** When to look again even if nothing changes; null: not before something does. */
  readonly lookAgain: Date | null;
  /** The next scheduled time, without jitter, for the policy's status. */
  readonly nextTick: Date | null;
}

const MOST_MISSED = 100;

/**
 * Which runs of a policy to make now. For each machine it is at most one: the latest scheduled time stands for those before it, and a
 * manual trigger for both.
 *
 * A machine starts at the scheduled time plus its share of the jitter. Where the window is closed then, it starts when the window opens, if
 * that is within the starting deadline, which counts from the machine's own start. The manual trigger waits for neither window nor resume.
 *
 * Throws `InvalidValueError` for a schedule or zone that means nothing.
 */
export function planSchedule<Machine extends ScheduledMachine>(
  policy: PolicySchedule,
  machines: readonly Machine[],
  now: Date,
): SchedulePlan<Machine> {
  const ticks = policy.schedule === null || policy.suspend ? null : parseCron(policy.schedule, policy.timeZone);
  const due: DueRun<Machine>[] = [];
  const missed: MissedRun<Machine>[] = [];
  const looks: (Date | null)[] = [];
  const isTriggered = (machine: Machine): boolean => policy.trigger !== null && policy.trigger !== machine.lastTrigger && !machine.active;
  for (const machine of machines.filter(isTriggered)) due.push({ machine, tick: null, missed: 0 });
  if (ticks === null) return { due, missed, lookAgain: null, nextTick: null };
  const opensAt = openingOf(policy, now);
  for (const machine of machines.filter((one) => !isTriggered(one))) {
    const verdict = judge({ policy, machine, ticks, now, opensAt });
    looks.push(verdict.lookAgain);
    if (verdict.late !== null) missed.push({ machine, ...verdict.late });
    if (verdict.due !== null) due.push({ machine, ...verdict.due });
  }
  return { due, missed, lookAgain: earliest(looks), nextTick: ticks.next(now) };
}

/** When a run may start: now, or when the window opens. */
function openingOf({ window, timeZone }: PolicySchedule, now: Date): Date {
  if (window === null) return now;
  const { open, until } = windowState(window, timeZone, now);
  return open ? now : until;
}

/** A machine's share of the jitter in milliseconds, below `jitterSeconds` and always the same. */
export function jitterOf(policyUid: string, machineUid: string, jitterSeconds: number): number {
  const hash = createHash("sha256").update(`${policyUid}/${machineUid}`).digest().readUIntBE(0, 6);
  return Math.floor((hash / 2 ** 48) * jitterSeconds) * 1000;
}

interface Judged {
  readonly due: { readonly tick: Date; readonly missed: number } | null;
  readonly late: { readonly tick: Date; readonly reason: MissedReason; readonly missed: number } | null;
  readonly lookAgain: Date | null;
}

interface Question {
  readonly policy: PolicySchedule;
  readonly machine: ScheduledMachine;
  readonly ticks: Ticks;
  readonly now: Date;
  readonly opensAt: Date;
}

function judge({ policy, machine, ticks, now, opensAt }: Question): Judged {
  const share = jitterOf(policy.uid, machine.uid, policy.jitterSeconds);
  const shifted = new Date(now.getTime() - share);
  const tick = ticks.last(shifted);
  const nextTick = ticks.next(shifted);
  const nextStart = nextTick === null ? null : new Date(nextTick.getTime() + share);
  const since = startOfDuty(policy, machine);
  if (tick === null || tick.getTime() <= since) return { due: null, late: null, lookAgain: nextStart };
  const passed = ticks.countBetween(new Date(since), tick, MOST_MISSED);
  const reason = lateness(tick.getTime() + share, { policy, machine, now, opensAt });
  if (reason !== null) return { due: null, late: { tick, reason, missed: Math.min(passed + 1, MOST_MISSED) }, lookAgain: nextStart };
  if (machine.active) return { due: null, late: null, lookAgain: nextStart };
  if (opensAt > now) return { due: null, late: null, lookAgain: earliest([opensAt, nextStart]) };
  return { due: { tick, missed: passed }, late: null, lookAgain: nextStart };
}

/** From when on the machine has scheduled times that a run may still be missing for. */
function startOfDuty(policy: PolicySchedule, { createdAt, lastTick }: ScheduledMachine): number {
  return Math.max(policy.createdAt.getTime(), createdAt.getTime(), lastTick?.getTime() ?? -Infinity);
}

function lateness(start: number, { policy, machine, now, opensAt }: Omit<Question, "ticks">): MissedReason | null {
  if (policy.startingDeadlineSeconds === null) return null;
  const deadline = start + policy.startingDeadlineSeconds * 1000;
  if (now.getTime() > deadline) return machine.active ? "StillRunning" : "TooLate";
  return opensAt.getTime() > deadline ? "OutsideWindow" : null;
}

function earliest(times: readonly (Date | null)[]): Date | null {
  const least = times.reduce((so, time) => Math.min(so, time?.getTime() ?? Infinity), Infinity);
  return Number.isFinite(least) ? new Date(least) : null;
}
