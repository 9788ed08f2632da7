import { isKubeError } from "../../kube/index.ts";
import { errorText } from "../../lib/errors.ts";
import { InvalidValueError } from "../../lib/invalid-value.ts";
import type { PodState, StartProblem } from "../dispatch/pod-state.ts";
import type { Pod } from "../kinds.ts";
import { conditionOf } from "../said.ts";
import type { Preparation, RunKind, RunResource, Stop } from "./run.ts";

/** Why an attempt failed. */
export interface Failure {
  readonly reason: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly at: Date;
}

const advice: Readonly<Record<StartProblem, string>> = {
  Unschedulable: "make room on the node, or have agents tolerate its taints",
  ImageUnavailable: "check the image and the imagePullSecrets that the operator was installed with",
  ConfigurationInvalid: "check the Secrets that the BackupRepository names",
};

/** Why an agent does not start, and what to do about it. */
export function startTrouble({ reason, message }: NonNullable<Extract<PodState, { readonly phase: "starting" }>["problem"]>): string {
  return `${message}: ${advice[reason]}`;
}

/** An agent that ended without a word. */
export function lost(reason: string, message: string): Omit<Failure, "at"> {
  return { reason, message, retryable: reason !== "DeadlineExceeded" };
}

/** An agent whose node does not say that it is gone. */
export function silence({ metadata, spec }: Pod): string {
  const { name, deletionTimestamp = "" } = metadata;
  return `node ${spec?.nodeName ?? "?"} does not answer: the agent ${name} was to be gone at ${deletionTimestamp}`;
}

/** The final stop that was decided for a run under way, as its status says; null where there is none. */
export function decidedStop(run: RunResource, { finalStops }: Pick<RunKind, "finalStops">): Stop | null {
  const said = conditionOf(run, "Succeeded");
  if (said?.status !== "Unknown" || !finalStops.includes(said.reason)) return null;
  return { reason: said.reason, message: said.message, final: true };
}

/** @param last what it came to, where that is not what the run says already */
export function overdue(run: RunResource, at: Date, last?: string): Failure {
  const said = last ?? conditionOf(run, "Succeeded")?.message ?? "";
  const message = `it was not done within ${run.spec.deadline}${said === "" ? "" : `; at last: ${said}`}`;
  return { reason: "DeadlineExceeded", message, retryable: false, at };
}

/** What an attempt came to. Of a pod that was taken away for being late, what the run said before has more to tell. */
export function lastWord({ reason, message }: Failure): string | undefined {
  return reason === "Deleted" || reason === "DeadlineExceeded" ? undefined : message;
}

/** What the API server does not take for as long as nobody changes something: not an outage, which passes. */
export function refusalOf(thrown: unknown): Extract<Preparation, { readonly kind: "refuse" }> | null {
  if (thrown instanceof InvalidValueError) return { kind: "refuse", reason: "RefusedByCluster", message: errorText(thrown), final: false };
  if (!isKubeError(thrown, "forbidden", "invalid")) return null;
  const message = `the API server refuses what the run needs: ${errorText(thrown)}: change the quota, the policy or the role that it names, and the run goes on`;
  return { kind: "refuse", reason: "RefusedByCluster", message, final: false };
}
