import { isOver, obstacle } from "./facts.ts";
import type { ClaimContext } from "./restore-claim.ts";
import { type RestoredDisk, RestoreStop } from "./restore-request.ts";

/** No pod has a claim that is to be written, but holders of this very restore. */
export function assertUnused(disks: readonly RestoredDisk[], { wish, target }: ClaimContext): void {
  const foreign = target.pods.filter((pod) => !isOver(pod) && pod.metadata.labels?.["thinstream.dev/run"] !== wish.uid);
  for (const { metadata, spec } of foreign) {
    const claims = new Set(spec?.volumes?.map((volume) => volume.persistentVolumeClaim?.claimName));
    const used = disks.find(({ claim }) => claims.has(claim));
    if (used === undefined) continue;
    const found = obstacle("VolumeInUse", `the pod ${metadata.name} has the volume ${used.claim}; the restore follows when it has ended`);
    throw new RestoreStop({ kind: "wait", ...found });
  }
}
