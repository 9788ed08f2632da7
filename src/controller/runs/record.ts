import { type ConditionStatus, rfc3339 } from "../../api/index.ts";
import { conditionsAfter } from "../said.ts";
import type { RunResource, RunStatus } from "./run.ts";

/** How a status changes; each of these is pure. */
export interface Moment {
  readonly now: Date;
}

interface Saying {
  readonly reason: string;
  readonly message: string;
}

/** Its `Succeeded`, and kstatus's conditions with it: `Stalled` where somebody has to act, else `Reconciling` until it is done. */
function withSucceeded(run: RunResource, status: ConditionStatus, said: Saying & { readonly stalls?: true }, now: Date): RunStatus {
  const open = said.stalls ? "Stalled" : "Reconciling";
  const say = { type: "Succeeded", status, reason: said.reason, message: cut(said.message, 4096) };
  return {
    ...run.status,
    observedGeneration: run.metadata.generation ?? 0,
    conditions: conditionsAfter(run, [say], status === "Unknown" ? open : null, now),
  };
}

/** It waits, or works. */
export function waiting(run: RunResource, saying: Saying, { now }: Moment): RunStatus {
  return withSucceeded(run, "Unknown", saying, now);
}

/** Somebody has to change something first. */
export function stalled(run: RunResource, saying: Saying, { now }: Moment): RunStatus {
  return withSucceeded(run, "Unknown", { ...saying, stalls: true }, now);
}

export function attemptBegun(
  run: RunResource,
  {
    attempt,
    pod,
    nodeName,
    more,
  }: {
    readonly attempt: number;
    readonly pod: { readonly namespace: string; readonly name: string };
    readonly nodeName: string | null;
    readonly more: object;
  },
  { now }: Moment,
): RunStatus {
  const status = withSucceeded(
    run,
    "Unknown",
    { reason: "AgentStarting", message: `attempt ${attempt}: the agent ${pod.name} starts` },
    now,
  );
  return {
    ...status,
    ...more,
    startTime: run.status?.startTime ?? rfc3339(now),
    attempts: attempt,
    agentPod: pod,
    ...(nodeName === null ? {} : { nodeName }),
  };
}

/** An attempt that failed and may be followed by another. */
export function attemptFailed(
  run: RunResource,
  failure: { readonly message: string; readonly agentLog: string; readonly at: Date; readonly next: Saying },
  { now }: Moment,
): RunStatus {
  return withoutAgent({ ...withSucceeded(run, "Unknown", failure.next, now), lastFailure: failureOf(run, failure) });
}

/** The end: nothing of it changes after. */
export function failed(run: RunResource, failure: Saying & { readonly agentLog: string; readonly at: Date }, { now }: Moment): RunStatus {
  const status = withSucceeded(run, "False", failure, now);
  return withoutAgent({ ...status, completionTime: rfc3339(now), lastFailure: failureOf(run, failure) });
}

export function succeeded(
  run: RunResource,
  end: {
    readonly message: string;
    readonly warnings: readonly string[];
    readonly status: object;
    readonly at: Date;
    readonly reason?: string;
    /** what its progress counted to, of which nothing need have been recorded before its end */
    readonly totalBytes?: number | undefined;
  },
  { now }: Moment,
): RunStatus {
  const warnings = end.warnings.slice(-20).map((warning) => cut(warning, 1024));
  const reason = end.reason ?? (warnings.length > 0 ? "CompletedWithWarnings" : "Completed");
  const status = withSucceeded(run, "True", { reason, message: end.message }, now);
  const { totalBytes = status.progress?.totalBytes } = end;
  const progress = totalBytes === undefined ? {} : { progress: { percent: 100, doneBytes: totalBytes, totalBytes } };
  return withoutAgent({
    ...status,
    ...progress,
    ...end.status,
    completionTime: rfc3339(end.at),
    ...(warnings.length > 0 ? { warnings } : {}),
  });
}

function failureOf(
  run: RunResource,
  { message, agentLog, at }: { readonly message: string; readonly agentLog: string; readonly at: Date },
): NonNullable<RunStatus["lastFailure"]> {
  const nodeName = run.status?.nodeName;
  return {
    time: rfc3339(at),
    ...(nodeName === undefined ? {} : { nodeName }),
    message: cut(message, 1024),
    ...(agentLog === "" ? {} : { agentLog: cut(agentLog, 4096) }),
  };
}

function withoutAgent(status: RunStatus): RunStatus {
  const rest = { ...status };
  delete (rest as { agentPod?: unknown }).agentPod;
  return rest;
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
