import type { BoundDisk } from "./disks.ts";
import type { VirtualMachine, VirtualMachineInstance } from "./objects.ts";

/** On a VirtualMachine: the RestoreRequest that last replaced its disks, by its UID. */
export const lastRestoreAnnotation = "thinstream.dev/last-restore";
/** KubeVirt's own, for its VirtualMachineRestore. */
const kubevirtRestoreAnnotation = "restore.kubevirt.io/lastRestoreUID";

/** What the bitmaps of a machine's disks rest on, as of one restore point. It is kept with the point. */
export interface BitmapFacts {
  /** by volume: the UID of its claim */
  readonly claims: Readonly<Record<string, string>>;
  readonly instanceUid: string | null;
  readonly kubevirtRestore: string | null;
  readonly ourRestore: string | null;
}

export type DoubtReason = "ClaimReplaced" | "RestoredByKubevirt" | "RestoredInPlace" | "UnexplainedStop" | "NothingKnown";

/** Why a disk's bitmap must not be believed: everything is read, and compared by hash. */
export interface BitmapDoubt {
  readonly volume: string;
  readonly reason: DoubtReason;
  readonly message: string;
}

export function bitmapFacts(vm: VirtualMachine, vmi: VirtualMachineInstance | null, disks: readonly BoundDisk[]): BitmapFacts {
  return {
    claims: Object.fromEntries(disks.map(({ volume, claimUid }) => [volume, claimUid])),
    instanceUid: vmi?.metadata.uid ?? null,
    kubevirtRestore: vm.metadata.annotations?.[kubevirtRestoreAnnotation] ?? null,
    ourRestore: vm.metadata.annotations?.[lastRestoreAnnotation] ?? null,
  };
}

/**
 * The disks whose bitmaps may be valid and wrong: measured, a volume that was changed from outside while its machine was off keeps a bitmap
 * that looks whole and knows nothing of it. `then` is null for a point that has no facts. `watchedStop` says that the controller saw the
 * machine stop and start, and nobody else with its volumes in between. A disk that the point does not have has no bitmap to doubt.
 */
export function bitmapDoubt(then: BitmapFacts | null, now: BitmapFacts, watchedStop: boolean): readonly BitmapDoubt[] {
  return Object.keys(now.claims).flatMap((volume): BitmapDoubt[] => {
    const found = then === null ? nothingKnown : reasonOf(volume, { before: then, now, watchedStop });
    return found === null ? [] : [{ volume, reason: found[0], message: `${found[1]}: disk ${volume} is read whole and compared` }];
  });
}

const nothingKnown: [DoubtReason, string] = ["NothingKnown", "the last restore point does not say which volumes it was made of"];

function reasonOf(
  volume: string,
  { before, now, watchedStop }: { readonly before: BitmapFacts; readonly now: BitmapFacts; readonly watchedStop: boolean },
): [DoubtReason, string] | null {
  const claim = before.claims[volume];
  if (claim === undefined) return null;
  if (claim !== now.claims[volume]) return ["ClaimReplaced", "its PersistentVolumeClaim is another than at the last restore point"];
  if (now.kubevirtRestore !== before.kubevirtRestore) {
    return ["RestoredByKubevirt", "KubeVirt restored the machine from a snapshot since the last restore point"];
  }
  if (now.ourRestore !== before.ourRestore) return ["RestoredInPlace", "the machine's disks were restored since the last restore point"];
  if (now.instanceUid !== before.instanceUid && !watchedStop) {
    return ["UnexplainedStop", "the machine was off since the last restore point, and what became of its volumes then is not known"];
  }
  return null;
}
