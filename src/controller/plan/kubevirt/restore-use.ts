import { isOver, obstacle } from "./facts.ts";
import type { LauncherPod } from "./objects.ts";
import type { ClaimContext } from "./restore-claim.ts";
import { type RestoredDisk, RestoreStop } from "./restore-request.ts";

/** No pod has a claim that is to be written, but holders of this very restore. */
export function assertUnused(disks: readonly RestoredDisk[], { wish, target }: ClaimContext): void {
  const claims = disks.map(({ claim }) => claim);
  const used = userOf(target.pods, claims, wish.uid);
  if (used === null) return;
  const found = obstacle("VolumeInUse", `the pod ${used.pod} has the volume ${used.claim}; the restore follows when it has ended`);
  throw new RestoreStop({ kind: "wait", ...found });
}

/** A pod that has one of these claims, other than those of a run; null where there is none. @param uid the run's */
export function userOf(
  pods: readonly LauncherPod[],
  claims: readonly string[],
  uid: string,
): { readonly pod: string; readonly claim: string } | null {
  for (const pod of pods.filter((one) => !isOver(one) && one.metadata.labels?.["thinstream.dev/run"] !== uid)) {
    const has = new Set(pod.spec?.volumes?.map((volume) => volume.persistentVolumeClaim?.claimName));
    const claim = claims.find((name) => has.has(name));
    if (claim !== undefined) return { pod: pod.metadata.name ?? "", claim };
  }
  return null;
}
