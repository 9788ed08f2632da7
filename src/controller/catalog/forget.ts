import { type BackupRepository, forgetFinalizer, parseAgentResult, type RestorePoint } from "../../api/index.ts";
import { isKubeError } from "../../kube/index.ts";
import { mapConcurrently } from "../../lib/concurrency.ts";
import { agentObjects } from "../agents/objects.ts";
import type { ControllerContext, Reconcile } from "../context.ts";
import { podState } from "../dispatch/pod-state.ts";
import { identityOf } from "../identity.ts";
import { type Pod, restorePoints } from "../kinds.ts";
import { dropFinalizers } from "./sync.ts";

type Again = Awaited<ReturnType<Reconcile>>;

/** Index of restore points: those to be forgotten, by repository. */
export const TO_FORGET = "to-forget";
const LOOK_MS = 2_000;
const FORGET_MS = 10 * 60_000;
/** milliseconds between two agents that try the same */
const RETRY_MS = 30_000;
/** Ids that one agent is given. */
const MOST = 2_000;
/** milliseconds after which a RestorePoint is let go though its point could not be forgotten: it comes back with the next reading of the catalog */
const PATIENCE_MS = 15 * 60_000;

/** Points whose objects were deleted to forget them, as one agent's work. */
export async function forgetDeleted(context: ControllerContext, repository: BackupRepository, signal: AbortSignal): Promise<Again> {
  const { agents, caches, pace } = context;
  const { uid } = identityOf(repository);
  const deleted = caches.points.lister.byIndex(TO_FORGET, repository.metadata.name);
  const [pod] = agents.workers(uid, "forget");
  if (pod !== undefined) return await look(context, { repository, pod, deleted }, signal);
  if (deleted.length === 0) return undefined;
  await letGoOfOld(context, repository, { deleted, signal });
  const left = deleted.filter((point) => !isOld(context, point));
  if (left.length === 0 || !pace.allows(`forget/${uid}`, RETRY_MS)) return { againInMs: LOOK_MS };
  await begin(context, repository, { points: left.slice(0, MOST), signal });
  return { againInMs: LOOK_MS };
}

/** The repository of a point that was deleted to forget it, which is yet to be done. */
export function toForget({ metadata, spec }: RestorePoint): readonly string[] {
  const waits = metadata.deletionTimestamp !== undefined && metadata.finalizers?.includes(forgetFinalizer) === true;
  return waits ? [spec.repositoryRef.name] : [];
}

function isOld({ now }: ControllerContext, { metadata }: RestorePoint): boolean {
  return now().getTime() - Date.parse(metadata.deletionTimestamp ?? "") > PATIENCE_MS;
}

async function begin(
  { agents, config, now }: ControllerContext,
  repository: BackupRepository,
  { points, signal }: { readonly points: readonly RestorePoint[]; readonly signal: AbortSignal },
): Promise<void> {
  const deadline = new Date(now().getTime() + FORGET_MS);
  const work = { type: "forget" as const, points: points.map(({ spec }) => spec.pointId) };
  const attempt = 1 + (Math.floor(now().getTime() / 1000) % 999_999);
  const job = { owner: repository, attempt, work, repository, deadline, uploadBytesPerSecond: 0, nodeName: null };
  await agents.launch(agentObjects({ ...job, mounts: [], files: {}, annotations: {} }, config), signal);
}

async function look(
  context: ControllerContext,
  { repository, pod, deleted }: { readonly repository: BackupRepository; readonly pod: Pod; readonly deleted: readonly RestorePoint[] },
  signal: AbortSignal,
): Promise<Again> {
  const again = { againInMs: LOOK_MS };
  const state = podState(pod);
  const isLate = context.now().getTime() - identityOf(pod).createdAt.getTime() > FORGET_MS;
  if (pod.metadata.deletionTimestamp !== undefined || (await context.agents.removeUnordered(pod, signal))) return again;
  if ((state.phase === "starting" || state.phase === "running") && !isLate) return again;
  const failure =
    state.phase === "reported" ? failureIn(state.message) : "message" in state ? state.message : "its agent did not end in time";
  if (failure === null) {
    const { work } = await context.agents.order(pod, signal);
    const forgotten = new Set(work.type === "forget" ? work.points : []);
    const done = deleted.filter(({ spec }) => forgotten.has(spec.pointId));
    await mapConcurrently(done, 8, async (point) => await dropFinalizers(context, point, signal));
  } else {
    context.events.record(repository, { type: "Warning", reason: "NotForgotten", action: "Forget", note: failure });
  }
  await context.agents.removePod(pod, signal);
  return again;
}

/** Nothing hangs for ever on a repository that cannot be written to. */
async function letGoOfOld(
  context: ControllerContext,
  repository: BackupRepository,
  { deleted, signal }: { readonly deleted: readonly RestorePoint[]; readonly signal: AbortSignal },
): Promise<void> {
  for (const point of deleted.filter((one) => isOld(context, one))) {
    const note = `${point.spec.pointId} could not be forgotten; it comes back with the next reading of the catalog`;
    context.events.record(repository, { type: "Warning", reason: "NotForgotten", action: "Forget", note });
    await dropFinalizers(context, point, signal);
  }
}

function failureIn(message: string): string | null {
  const result = parseAgentResult(message);
  return result.outcome === "Failed" ? result.message : null;
}

/** Deletes RestorePoints so that their points are forgotten. */
export async function forgetPoints({ client }: ControllerContext, points: readonly RestorePoint[], signal: AbortSignal): Promise<void> {
  await mapConcurrently(points, 4, async ({ metadata }) => {
    const { resourceVersion, uid } = metadata;
    const finalizers = [...new Set([...(metadata.finalizers ?? []), forgetFinalizer])];
    try {
      const marked = await client.patch(
        restorePoints,
        metadata,
        { metadata: { finalizers, resourceVersion, uid }, spec: { deletionPolicy: "Delete" } },
        { lane: "low", signal },
      );
      await client.delete(restorePoints, metadata, { uid, resourceVersion: marked.metadata.resourceVersion, lane: "low", signal });
    } catch (thrown) {
      // Somebody was faster, perhaps by a hold: it is looked at again.
      if (!isKubeError(thrown, "not-found", "conflict")) throw thrown;
    }
  });
}
