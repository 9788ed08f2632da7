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
      readonly state?: {
        readonly waiting?: { readonly reason?: string; readonly message?: string };
        readonly running?: unknown;
        readonly terminated?: Ended;
      };
    }[];
  };
}

interface Ended {
  readonly exitCode?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly finishedAt?: string;
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

const IMAGE = new Set([
  "ErrImagePull",
  "ImagePullBackOff",
  "InvalidImageName",
  "ErrImageNeverPull",
  "ImageInspectError",
  "RegistryUnavailable",
]);
const CONFIGURATION = new Set(["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"]);

/** Reads a pod. What the agent said counts more than how the pod ended: it may have committed before it was evicted. */
export function podState({ metadata, status = {} }: PodFacts): PodState {
  const state = status.containerStatuses?.[0]?.state ?? {};
  const ended = state.terminated;
  if (ended !== undefined && isReport(ended.message))
    return { phase: "reported", message: ended.message, finishedAt: ended.finishedAt ?? null };
  const reason = lossOf(status, ended, metadata.deletionTimestamp !== undefined);
  if (reason !== null)
    return { phase: "lost", reason, message: ended?.message ?? status.message ?? "", finishedAt: ended?.finishedAt ?? null };
  if (state.running !== undefined && status.podIP !== undefined) return { phase: "running", address: status.podIP };
  return { phase: "starting", problem: startProblem(status, state.waiting ?? {}) };
}

/** Where the container runtime could not read a message it gives the log's tail instead, which is no report. */
function isReport(message: string | undefined): message is string {
  return message !== undefined && message.startsWith("{") && message.endsWith("}");
}

function lossOf(status: NonNullable<PodFacts["status"]>, ended: Ended | undefined, isDeleted: boolean): LossReason | null {
  const isOver = ended !== undefined || status.phase === "Failed" || status.phase === "Succeeded";
  if (status.reason === "NodeLost" || (status.phase === "Unknown" && isDeleted)) return "NodeLost";
  if (!isOver) return null;
  if (status.reason === "Evicted" || disruption(status) !== null) return "Evicted";
  if (ended?.reason === "OOMKilled") return "OutOfMemory";
  if (status.reason === "DeadlineExceeded") return "DeadlineExceeded";
  return isDeleted ? "Deleted" : "Killed";
}

function disruption({ conditions = [] }: NonNullable<PodFacts["status"]>): string | null {
  return conditions.find(({ type, status }) => type === "DisruptionTarget" && status === "True")?.reason ?? null;
}

function startProblem(
  { conditions = [] }: NonNullable<PodFacts["status"]>,
  waiting: { readonly reason?: string; readonly message?: string },
): { readonly reason: StartProblem; readonly message: string } | null {
  const message = waiting.message ?? "";
  if (IMAGE.has(waiting.reason ?? "")) return { reason: "ImageUnavailable", message };
  if (CONFIGURATION.has(waiting.reason ?? "")) return { reason: "ConfigurationInvalid", message };
  const scheduled = conditions.find(({ type }) => type === "PodScheduled");
  if (scheduled?.status === "False" && scheduled.reason === "Unschedulable")
    return { reason: "Unschedulable", message: scheduled.message ?? "" };
  return null;
}
