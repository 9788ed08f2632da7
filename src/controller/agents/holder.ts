import { isKubeError, type KubeObject, type Manifest } from "../../kube/index.ts";
import type { ControllerContext } from "../context.ts";
import { type PodState, podState } from "../dispatch/pod-state.ts";
import { identityOf } from "../identity.ts";
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

/** milliseconds between two holders of the same volumes */
const REMAKE_MS = 10_000;
/** seconds a holder lives at most, should nobody take it away */
const HOLD_SECONDS = 7 * 24 * 3600;

/** Sees to it that a holder has the volumes: one for all attempts of a run. It goes with the run's other pods. */
export async function ensureHolder(context: ControllerContext, hold: Hold, signal: AbortSignal): Promise<Held> {
  const name = workName("hold", ownerOf({ owner: hold.owner, attempt: 0 }));
  const there = await context.agents.find(hold.namespace, name, signal);
  const called = `the holder ${hold.namespace}/${name} of its volumes`;
  if (there === null) {
    await create(context, hold, signal);
    return { kind: "wait", message: `${called} starts` };
  }
  const state = podState(there);
  if (state.phase === "lost" || state.phase === "reported") return await remake(context, { there, state, called }, signal);
  const nodeName = isRunning(there) ? there.spec?.nodeName : undefined;
  if (nodeName !== undefined) return { kind: "held", nodeName, podUid: identityOf(there).uid };
  const problem = state.phase === "starting" && state.problem !== null ? `: ${state.problem.message}` : "";
  return { kind: "wait", message: `${called} waits for them${problem}` };
}

/** Takes a holder that ended away, so that another is made; one that is lost at once is not made as fast as it is lost. */
async function remake(
  { agents, log, pace }: ControllerContext,
  {
    there,
    state,
    called,
  }: { readonly there: Pod; readonly state: Extract<PodState, { readonly message: string }>; readonly called: string },
  signal: AbortSignal,
): Promise<Held> {
  const why = state.phase === "lost" ? `${state.reason} ${state.message}`.trim() : state.message;
  if (pace.allows(`holder/${there.metadata.name}`, REMAKE_MS)) {
    log.warn({ holder: there.metadata.name, why }, `${called} was lost: ${why}`);
    await agents.removePod(there, signal);
  }
  return { kind: "wait", message: `${called} was lost (${why}) and is made anew` };
}

async function create({ client, config }: ControllerContext, hold: Hold, signal: AbortSignal): Promise<void> {
  const owner = ownerOf({ owner: hold.owner, attempt: 0 });
  const manifest: Manifest = { ...holderPod({ ...hold, owner, deadlineSeconds: HOLD_SECONDS }, config.pods) };
  await client.create(pods, manifest, { signal }).catch((thrown: unknown) => {
    if (!isKubeError(thrown, "already-exists")) throw thrown;
  });
}

function isRunning({ metadata, status }: Pod): boolean {
  return metadata.deletionTimestamp === undefined && status?.containerStatuses?.[0]?.state?.running !== undefined;
}
