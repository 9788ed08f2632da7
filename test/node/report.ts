import type { Ending } from "./container.ts";
import { now } from "./container.ts";
import type { Condition, Pod } from "./pod.ts";

/** Why a container does not run yet. */
export interface Waiting {
  readonly reason: string;
  readonly message?: string;
}

export type ContainerState =
  { readonly waiting: Waiting } | { readonly running: { readonly startedAt: string } } | { readonly terminated: Ending };

/** What the kubelet knows of a pod. */
export interface Report {
  readonly state: ContainerState;
  readonly podIP: string | undefined;
  readonly ready: boolean;
  readonly restarts: number;
  readonly last?: Ending | undefined;
  readonly startTime: string;
  /** Once the pod is over as a whole. */
  readonly over?: {
    readonly phase: "Succeeded" | "Failed";
    readonly reason?: string;
    readonly message?: string;
    readonly disrupted?: string;
  };
}

/** The status of a pod as the kubelet writes it, as a strategic merge patch. */
export function statusOf(pod: Pod, report: Report): object {
  const { state, podIP, over, startTime } = report;
  const phase = over?.phase ?? ("running" in state || report.restarts > 0 ? "Running" : "Pending");
  return {
    status: {
      phase,
      reason: over?.reason ?? null,
      message: over?.message ?? null,
      startTime,
      hostIP: "127.0.0.1",
      hostIPs: [{ ip: "127.0.0.1" }],
      ...(podIP === undefined ? {} : { podIP, podIPs: [{ ip: podIP }] }),
      conditions: conditionsOf(pod, report),
      containerStatuses: [containerStatus(pod, report)],
    },
  };
}

function containerStatus(pod: Pod, { state, ready, restarts, last }: Report): object {
  const { name = "", image = "" } = pod.spec.containers[0] ?? {};
  return {
    name,
    image,
    imageID: "waiting" in state && restarts === 0 ? "" : `lab://${image}`,
    state,
    lastState: last === undefined ? {} : { terminated: last },
    ready,
    started: "running" in state,
    restartCount: restarts,
  };
}

function conditionsOf(pod: Pod, { state, ready, over }: Report): Condition[] {
  const isOver = over !== undefined;
  const notReady = isOver ? `Pod${over.phase === "Succeeded" ? "Completed" : "Failed"}` : "ContainersNotReady";
  const found = [
    ["PodReadyToStartContainers", !isOver],
    ["Initialized", true],
    ["Ready", ready, notReady],
    ["ContainersReady", ready, notReady],
    ["PodScheduled", true],
  ] as const;
  const made: Condition[] = found.map(([type, is, reason]) =>
    condition(pod, { type, status: is ? "True" : "False", ...(is || reason === undefined ? {} : { reason }) }),
  );
  if (over?.disrupted === undefined) return made;
  return [
    ...made,
    condition(pod, {
      type: "DisruptionTarget",
      status: "True",
      reason: over.disrupted,
      message: "terminated" in state ? (over.message ?? "") : "",
    }),
  ];
}

/** With the time of the last change, which is now only when it changed. */
function condition(pod: Pod, wanted: Condition): Condition {
  const before = pod.status?.conditions?.find(({ type }) => type === wanted.type);
  const lastTransitionTime = before?.status === wanted.status ? before.lastTransitionTime : undefined;
  return { ...wanted, lastTransitionTime: lastTransitionTime ?? now() };
}
