import type { BackupRepository, RestorePoint } from "../../api/index.ts";
import { applyStatus } from "../../kube/index.ts";
import { BY_REPOSITORY } from "../catalog/sync.ts";
import type { ControllerContext } from "../context.ts";
import { restorePoints } from "../kinds.ts";
import { conditionOf, conditionsWith, type Say } from "../said.ts";

const damage: Say = {
  type: "Verified",
  status: "False",
  reason: "DamageFound",
  message:
    "a check found that something of it is missing or damaged: what of it can be restored, `thinstream check` says; the machine's next backup is whole again",
};
const whole: Say = { type: "Verified", status: "True", reason: "Checked", message: "a later check read all that it needs" };

/**
 * Says of restore points that they are damaged; and where every byte was looked at, that those are not of which it was said before. Resolves with how many
 * are known to be damaged then.
 */
export async function markPoints(
  context: ControllerContext,
  {
    repository,
    damaged,
    isWhole,
  }: { readonly repository: BackupRepository; readonly damaged: readonly string[]; readonly isWhole: boolean },
  signal: AbortSignal,
): Promise<number> {
  const { client, caches, now } = context;
  const ids = new Set(damaged);
  let marked = 0;
  for (const point of caches.points.lister.byIndex(BY_REPOSITORY, repository.metadata.name)) {
    const wasDamaged = conditionOf(point, "Verified")?.status === "False";
    const say = ids.has(point.spec.pointId) ? damage : whole;
    if (say === damage || (wasDamaged && !isWhole)) marked += 1;
    if (say === whole && !(isWhole && wasDamaged)) continue;
    const next = (latest: RestorePoint): RestorePoint["status"] =>
      ({ ...latest.status, conditions: conditionsWith(latest, [say], now()) }) as RestorePoint["status"];
    await applyStatus(client, restorePoints, point, { next, lane: "low", signal });
  }
  return marked;
}
