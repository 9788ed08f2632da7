import { forgetFinalizer, type RestorePoint } from "../../api/index.ts";
import { applyStatus, isKubeError } from "../../kube/index.ts";
import type { ControllerContext, Reconcile } from "../context.ts";
import { restorePoints } from "../kinds.ts";
import { conditionsAfter, type Say } from "../said.ts";

/** milliseconds between two looks at a point whose repository's catalog is being mirrored: the rest of the catalog goes first */
const MIRRORING_MS = 2_000;

/**
 * Restore points in the cluster: says whether they can be restored, and sees to it that one whose deletion is to forget the point does not go before that
 * is done. The forgetting itself is its repository's work, many at a time.
 */
export class RestorePointReconciler {
  readonly #context: ControllerContext;
  readonly #wakeRepository: (name: string) => void;

  constructor(context: ControllerContext, wakeRepository: (name: string) => void) {
    this.#context = context;
    this.#wakeRepository = wakeRepository;
  }

  readonly reconcile: Reconcile = async (key, signal) => {
    const point = this.#context.caches.points.lister.get(key);
    if (point === undefined) return undefined;
    if (point.metadata.deletionTimestamp !== undefined) {
      this.#wakeRepository(point.spec.repositoryRef.name);
      return undefined;
    }
    if (this.#context.mirroring.isUnderWay(point.spec.repositoryRef.name)) return { againInMs: MIRRORING_MS };
    await this.#guard(point, signal);
    await this.#say(point, signal);
    return undefined;
  };

  /** The finalizer is there while deletion means forgetting. */
  async #guard({ metadata, spec }: RestorePoint, signal: AbortSignal): Promise<void> {
    const all = metadata.finalizers ?? [];
    const wanted = spec.deletionPolicy === "Delete" && !spec.hold;
    if (wanted === all.includes(forgetFinalizer)) return;
    const finalizers = wanted ? [...all, forgetFinalizer] : all.filter((one) => one !== forgetFinalizer);
    const { resourceVersion, uid } = metadata;
    await this.#context.client
      .patch(restorePoints, metadata, { metadata: { finalizers, resourceVersion, uid } }, { lane: "low", signal })
      .catch((thrown: unknown) => {
        if (!isKubeError(thrown, "not-found")) throw thrown;
      });
  }

  async #say(point: RestorePoint, signal: AbortSignal): Promise<void> {
    const { client, caches, now } = this.#context;
    const name = point.spec.repositoryRef.name;
    const isThere = caches.repositories.lister.get(name) !== undefined;
    const say: Say = isThere
      ? { type: "Ready", status: "True", reason: "InRepository", message: "" }
      : {
          type: "Ready",
          status: "False",
          reason: "RepositoryNotFound",
          message: `there is no BackupRepository ${name}: make it to restore from it`,
        };
    const next = (latest: RestorePoint): RestorePoint["status"] =>
      ({
        ...latest.status,
        observedGeneration: latest.metadata.generation ?? 0,
        conditions: conditionsAfter(latest, [say], isThere ? null : "Stalled", now()),
      }) as RestorePoint["status"];
    await applyStatus(client, restorePoints, point, { next, lane: "low", signal });
  }
}
