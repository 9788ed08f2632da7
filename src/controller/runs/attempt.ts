import { durationMs } from "../../api/index.ts";
import type { Pod } from "../kinds.ts";
import type { RunResource } from "./run.ts";

/** A pod's attempt is the number its name ends in. */
export function attemptOf({ metadata }: Pick<Pod, "metadata">): number {
  return Number(/-(\d+)$/.exec(metadata.name)?.[1] ?? 0);
}

/** What a run's pods are to it. */
export interface Attempts {
  /** the one under way, or whose end is not recorded yet */
  readonly current: Pod | null;
  /** Of attempts whose end is recorded: to be removed. */
  readonly over: readonly Pod[];
  /** the number of the next, where none is under way */
  readonly next: number;
}

/**
 * An attempt is recorded (`attempts`, `agentPod`) after its pod is made, and its end (`agentPod` taken away) before its pod is removed: so a pod of a higher number
 * than recorded, or the one that is named, is under way; others are over.
 */
export function attemptsOf(run: RunResource, pods: readonly Pod[]): Attempts {
  const recorded = run.status?.attempts ?? 0;
  const named = run.status?.agentPod?.name;
  const isCurrent = (pod: Pod): boolean => pod.metadata.name === named || attemptOf(pod) > recorded;
  const current = pods.filter(isCurrent).toSorted((a, b) => attemptOf(b) - attemptOf(a))[0] ?? null;
  return { current, over: pods.filter((pod) => pod !== current), next: recorded + 1 };
}

/** milliseconds to wait after so many failures: 10 s, doubled each time, 6 min at most */
export function backoffAfter(failures: number): number {
  return Math.min(10_000 * 2 ** Math.max(0, failures - 1), 360_000);
}

/** When a run has to be over. It counts from its first attempt, or while there was none from its making. */
export function deadlineOf({ metadata, spec, status }: RunResource): Date {
  const from = status?.startTime ?? metadata.creationTimestamp ?? new Date(0).toISOString();
  return new Date(Date.parse(from) + durationMs(spec.deadline));
}
