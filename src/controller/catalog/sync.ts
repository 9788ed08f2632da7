import { forgetFinalizer, type PointsPage, type PointSummary, type RestorePoint } from "../../api/index.ts";
import { isKubeError } from "../../kube/index.ts";
import { mapConcurrently } from "../../lib/concurrency.ts";
import type { AgentChannel } from "../agents/agent-channel.ts";
import type { ControllerContext } from "../context.ts";
import { identityOf } from "../identity.ts";
import { restorePoints } from "../kinds.ts";
import { createMirror, mirror, mirrorRef } from "./mirror.ts";

/** Index of restore points: by repository. */
export const BY_REPOSITORY = "repository";
/** Mirrors made or taken away at a time. */
const PARALLEL = 24;

/** What a catalog adds up to. */
export interface Catalog {
  readonly points: number;
  readonly machines: number;
  readonly storedBytes: number;
  readonly unreadable: readonly string[];
  /** mirrors made and taken away */
  readonly changed: number;
}

/** Reads a catalog page by page from the agent that serves it, and brings the mirrors to it. What is there already is not touched. */
export async function syncCatalog(
  context: ControllerContext,
  {
    repository,
    channel,
    since,
    first,
  }: {
    readonly repository: string;
    readonly channel: AgentChannel;
    /** when the agent was made */
    readonly since: Date;
    readonly first: PointsPage;
  },
  signal: AbortSignal,
): Promise<Catalog> {
  const ids = new Set<string>();
  const machines = new Set<string>();
  const unreadable: string[] = [];
  let storedBytes = 0;
  let changed = 0;
  for (let page: PointsPage | null = first; page !== null; page = page.next === null ? null : await channel.points(page.next, signal)) {
    for (const { id, vm, disks } of page.points) {
      ids.add(id);
      machines.add(vm.name);
      storedBytes += disks.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0);
    }
    unreadable.push(...page.unreadable.map(({ id }) => id));
    changed += await createMissing(context, repository, { points: page.points, signal });
  }
  changed += await removeStale(context, { repository, ids: new Set([...ids, ...unreadable]), since }, signal);
  return { points: ids.size, machines: machines.size, storedBytes, unreadable, changed };
}

async function createMissing(
  { client, caches, config }: ControllerContext,
  repository: string,
  { points, signal }: { readonly points: readonly PointSummary[]; readonly signal: AbortSignal },
): Promise<number> {
  const homes = { has: (name: string): boolean => caches.namespaces.lister.get(name) !== undefined };
  const missing = points.flatMap((point) => {
    const ref = mirrorRef(repository, point, { homes, home: config.namespace });
    return caches.points.lister.get(`${ref.namespace}/${ref.name}`) === undefined ? [{ point, ref }] : [];
  });
  await mapConcurrently(missing, PARALLEL, async ({ point, ref }) => {
    await createMirror(client, mirror(repository, point, ref), { annotations: {}, lane: "low", signal });
  });
  return missing.length;
}

/** Takes away the mirrors of points that are gone; never one that was made after the catalog was read. */
async function removeStale(
  { client, caches }: ControllerContext,
  { repository, ids, since }: { readonly repository: string; readonly ids: ReadonlySet<string>; readonly since: Date },
  signal: AbortSignal,
): Promise<number> {
  const stale = caches.points.lister
    .byIndex(BY_REPOSITORY, repository)
    .filter(
      (point) => !ids.has(point.spec.pointId) && identityOf(point).createdAt < since && point.metadata.deletionTimestamp === undefined,
    );
  await mapConcurrently(stale, PARALLEL, async (point) => {
    await dropFinalizers({ client }, point, signal);
    await ignoringGone(client.delete(restorePoints, point.metadata, { uid: point.metadata.uid, lane: "low", signal }));
  });
  return stale.length;
}

/** Lets a RestorePoint go: nothing is left to be done for it. */
export async function dropFinalizers(
  { client }: Pick<ControllerContext, "client">,
  { metadata }: RestorePoint,
  signal: AbortSignal,
): Promise<void> {
  const all = metadata.finalizers ?? [];
  const { resourceVersion, uid } = metadata;
  if (!all.includes(forgetFinalizer)) return;
  const finalizers = all.filter((one) => one !== forgetFinalizer);
  await ignoringGone(client.patch(restorePoints, metadata, { metadata: { finalizers, resourceVersion, uid } }, { signal }));
}

async function ignoringGone(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (thrown) {
    if (!isKubeError(thrown, "not-found", "conflict")) throw thrown;
  }
}
