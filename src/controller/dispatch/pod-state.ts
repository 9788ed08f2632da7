/** The parts of a Pod that tell how its one container fares; any client's Pod satisfies it. */
export interface PodFacts {
  readonly metadata: { readonly creationTimestamp?: string; readonly deletionTimestamp?: string };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly podIP?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
    readonly containerStatuses?: readonly {
      readonly state?: ContainerState;
    }[];
  };
}

interface ContainerState {
  readonly waiting?: { readonly reason?: string; readonly message?: string };
  readonly running?: unknown;
  readonly terminated?: Ended;
}

interface Ended {
  readonly exitCode?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly finishedAt?: string | null;
}

/** Why an agent's pod does not come up, as far as the cluster says. */
export type StartProblem = "Unschedulable" | "ImageUnavailable" | "ConfigurationInvalid";
/** Why a pod ended without an agent's word. */
export type LossReason = "Evicted" | "OutOfMemory" | "NodeLost" | "DeadlineExceeded" | "Killed" | "Deleted";

/** What a pod of ours is doing. */
export type PodState =
  | { readonly phase: "starting"; readonly problem: { readonly reason: StartProblem; readonly message: string } | null }
  | { readonly phase: "running"; readonly address: string }
  /** The agent had the last word: its termination message. */
  | { readonly phase: "reported"; readonly message: string; readonly finishedAt: string | null }
  | { readonly phase: "lost"; readonly reason: LossReason; readonly message: string; readonly finishedAt: string | null };

type Status = NonNullable<PodFacts["status"]>;

/** What the container runtime says while it waits, and what that means. */
const PROBLEMS: Readonly<Record<string, StartProblem>> = {
  ErrImagePull: "ImageUnavailable",
  ImagePullBackOff: "ImageUnavailable",
  InvalidImageName: "ImageUnavailable",
  ErrImageNeverPull: "ImageUnavailable",
  ImageInspectError: "ImageUnavailable",
  RegistryUnavailable: "ImageUnavailable",
  CreateContainerConfigError: "ConfigurationInvalid",
  CreateContainerError: "ConfigurationInvalid",
  RunContainerError: "ConfigurationInvalid",
  StartError: "ConfigurationInvalid",
};

/** Reads a pod. What the agent said counts more than how the pod ended: it may have committed before it was evicted. */
export function podState({ metadata, status = {} }: PodFacts): PodState {
  const state = status.containerStatuses?.[0]?.state ?? {};
  if (state.terminated === undefined && !isOver(status) && !isNodeLost(status)) return liveState(status, state);
  return endState(status, state.terminated ?? {}, metadata.deletionTimestamp !== undefined);
}

/** milliseconds after the end of its grace period in which a node may still take a pod away */
const SILENCE_MS = 30_000;

/** Whether a pod should long be gone: whoever has to take it away, on its node, does not hear of it. What ran in it may run still. */
export function isOverdue({ metadata: { deletionTimestamp } }: PodFacts, now: Date): boolean {
  // The cluster sets it to the end of the grace period.
  return deletionTimestamp !== undefined && now.getTime() - Date.parse(deletionTimestamp) > SILENCE_MS;
}

function liveState(status: Status, { running, waiting = {} }: ContainerState): PodState {
  if (running !== undefined && status.podIP !== undefined) return { phase: "running", address: status.podIP };
  return { phase: "starting", problem: waitingProblem(waiting) ?? schedulingProblem(status) };
}

function endState(status: Status, { message, reason, exitCode, finishedAt = null }: Ended, isDeleted: boolean): PodState {
  if (isReport(message)) return { phase: "reported", message, finishedAt };
  const loss = lossOf(status, reason) ?? (isDeleted ? "Deleted" : "Killed");
  const code = exitCode === undefined ? "" : ` (exit code ${exitCode})`;
  return { phase: "lost", reason: loss, message: status.message ?? `${LOSSES[loss]}${code}${lastWords(message)}`, finishedAt };
}

/** A termination message that is no report is the end of the log: of its own lines, which are JSON, an agent's run keeps more elsewhere. */
function lastWords(message: string = ""): string {
  const last = message.trim().split("\n").at(-1) ?? "";
  return last === "" || /^\W*"|[{}]/.test(last) ? "" : `: ${last}`;
}

const LOSSES: Readonly<Record<LossReason, string>> = {
  Evicted: "its node took the pod away",
  OutOfMemory: "it took more memory than it may have: raise the agent's memory limit",
  NodeLost: "its node does not answer any more",
  DeadlineExceeded: "its time was over",
  Killed: "it ended without a word",
  Deleted: "its pod was deleted",
};

/** Where the container runtime could not read a message it gives the log's tail instead, which is no report. */
function isReport(message: string | undefined): message is string {
  return message !== undefined && message.startsWith("{") && message.endsWith("}");
}

function lossOf(status: Status, ended: string | undefined): LossReason | null {
  if (isNodeLost(status)) return "NodeLost";
  if (status.reason === "Evicted" || isDisrupted(status)) return "Evicted";
  if (ended === "OOMKilled") return "OutOfMemory";
  return status.reason === "DeadlineExceeded" ? "DeadlineExceeded" : null;
}

function isOver({ phase }: Status): boolean {
  return phase === "Failed" || phase === "Succeeded";
}

function isNodeLost({ phase, reason }: Status): boolean {
  return reason === "NodeLost" || phase === "Unknown";
}

function isDisrupted({ conditions = [] }: Status): boolean {
  return conditions.some(({ type, status }) => type === "DisruptionTarget" && status === "True");
}

interface Problem {
  readonly reason: StartProblem;
  readonly message: string;
}

function waitingProblem({ reason = "", message = "" }: { readonly reason?: string; readonly message?: string }): Problem | null {
  const problem = PROBLEMS[reason];
  return problem === undefined ? null : { reason: problem, message };
}

function schedulingProblem({ conditions = [] }: Status): Problem | null {
  const scheduled = conditions.find(
    ({ type, status, reason }) => type === "PodScheduled" && status === "False" && reason === "Unschedulable",
  );
  return scheduled === undefined ? null : { reason: "Unschedulable", message: scheduled.message ?? "" };
}
