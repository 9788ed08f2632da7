import { clockChange, wallTime } from "../../lib/zone.ts";

/** When runs may start, every day, by the clocks of a time zone: from `start` until before `end`, over midnight where `end` is earlier. */
export interface BackupWindow {
  /** such as `22:00` */
  readonly start: string;
  readonly end: string;
}

/** Whether the window is open, and when that changes. */
export interface WindowState {
  readonly open: boolean;
  readonly until: Date;
}

/** What the window says of a run: it goes on, waits until the window opens, or ends because it closed. */
export type WindowVerdict = { readonly kind: "go" } | { readonly kind: "wait"; readonly until: Date } | { readonly kind: "end" };

const DAY = 1440;

/** The state of a window at an instant. An hour that the clocks leave out is no part of it, and one that they show twice is part of it twice. */
export function windowState(window: BackupWindow, timeZone: string, now: Date): WindowState {
  const open = isOpen(window, timeZone, now);
  const edge = minutesOf(open ? window.end : window.start);
  let from = now;
  for (;;) {
    const { hour, minute, second, offset } = wallTime(from, timeZone);
    const minutes = (edge - hour * 60 - minute + DAY - 1) % DAY;
    const next = new Date(from.getTime() + (minutes + 1) * 60_000 - second * 1000 - from.getMilliseconds());
    if (wallTime(next, timeZone).offset === offset) return { open, until: next };
    const change = clockChange(from, next, timeZone);
    if (isOpen(window, timeZone, change) !== open) return { open, until: change };
    from = change;
  }
}

/** @param begun whether an attempt of the run was begun: outside of the window none is the first */
export function windowVerdict(
  window: BackupWindow & { readonly onOverrun: "Continue" | "Cancel" },
  { timeZone, now, begun }: { readonly timeZone: string; readonly now: Date; readonly begun: boolean },
): WindowVerdict {
  const { open, until } = windowState(window, timeZone, now);
  if (open) return { kind: "go" };
  if (window.onOverrun === "Cancel") return { kind: "end" };
  return begun ? { kind: "go" } : { kind: "wait", until };
}

function isOpen({ start, end }: BackupWindow, timeZone: string, instant: Date): boolean {
  const { hour, minute } = wallTime(instant, timeZone);
  const [from, to, clock] = [minutesOf(start), minutesOf(end), hour * 60 + minute];
  return from < to ? from <= clock && clock < to : clock >= from || clock < to;
}

function minutesOf(clock: string): number {
  const [hours = 0, minutes = 0] = clock.split(":").map(Number);
  return hours * 60 + minutes;
}
