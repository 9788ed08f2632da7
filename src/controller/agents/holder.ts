import { isKubeError, type KubeObject } from "../../kube/index.ts";
import type { ControllerContext } from "../context.ts";
import { podState } from "../dispatch/pod-state.ts";
import { type Pod, pods } from "../kinds.ts";
import { type HeldVolume, holderPod } from "../plan/holder-pod.ts";
import { workName } from "../plan/pod.ts";
import { ownerOf } from "./objects.ts";

/** Volumes that an agent is to reach through a pod in their namespace. */
export interface Hold {
  readonly owner: KubeObject;
  readonly namespace: string;
  readonly repository: string;
  readonly volumes: readonly HeldVolume[];
  /** null: where the scheduler can have them */
  readonly node: string | null;
  readonly readOnly: boolean;
}

export type Held =
  { readonly kind: "held"; readonly nodeName: string; readonly podUid: string } | { readonly kind: "wait"; readonly message: string };

/** seconds a holder lives at most, should nobody take it away */
const HOLD_SECONDS = 7 * 24 * 3600;

/** Sees to it that a holder has the volumes: one for all attempts of a run. It goes with the run's other pods. */
export async function ensureHolder({ client, agents, config }: ControllerContext, hold: Hold, signal: AbortSignal): Promise<Held> {
  const owner = ownerOf({ owner: hold.owner, attempt: 0 });
  const name = workName("hold", owner);
  const there = await agents.find(hold.namespace, name, signal);
  if (there === null) {
    await create();
    return { kind: "wait", message: `the holder ${hold.namespace}/${name} of its volumes starts` };
  }
  const state = podState(there);
  if (state.phase === "lost" || state.phase === "reported") {
    await agents.removePod(there, signal);
    return { kind: "wait", message: `the holder ${hold.namespace}/${name} of its volumes was lost and is made anew` };
  }
  const { nodeName } = there.spec ?? {};
  if (!isRunning(there) || nodeName === undefined) {
    const problem = state.phase === "starting" ? state.problem?.message : undefined;
    return {
      kind: "wait",
      message: `the holder ${hold.namespace}/${name} waits for its volumes${problem === undefined ? "" : `: ${problem}`}`,
    };
  }
  return { kind: "held", nodeName, podUid: there.metadata.uid ?? "" };

  async function create(): Promise<void> {
    const manifest = holderPod({ ...hold, owner, deadlineSeconds: HOLD_SECONDS }, config.pods);
    await client.create(pods, manifest as unknown as Parameters<typeof client.create>[1], { signal }).catch((thrown: unknown) => {
      if (!isKubeError(thrown, "already-exists")) throw thrown;
    });
  }
}

function isRunning({ metadata, status }: Pod): boolean {
  return metadata.deletionTimestamp === undefined && status?.containerStatuses?.[0]?.state?.running !== undefined;
}
