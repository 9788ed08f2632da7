import { parseQuantity } from "../../../api/index.ts";
import { lastRestoreAnnotation } from "./bitmap-doubt.ts";
import { findObject } from "./bundle.ts";
import { claimNameOf, isFinal, volumeModeOf } from "./facts.ts";
import type { Claim, VirtualMachine, VmVolume } from "./objects.ts";
import { wantsToRun } from "./obstacles.ts";
import type { ClaimContext } from "./restore-claim.ts";
import { lastPatch, planNew } from "./restore-new.ts";
import { assertUnused } from "./restore-use.ts";
import {
  type PointFacts,
  refusal,
  restoreAnnotation,
  restoredAnnotation,
  type RestoreDecision,
  type RestoredDisk,
  RestoreStop,
  type RestoreWish,
  type TargetFacts,
} from "./restore-request.ts";

type Disk = PointFacts["disks"][number];

/**
 * What a restore has to create and write, or why it cannot. The same facts give the same objects under the same names, each marked with the
 * request, so a restore that was interrupted goes on where it was.
 */
export function planRestore(wish: RestoreWish, point: PointFacts, target: TargetFacts): RestoreDecision {
  const decided = decideExisting(wish, target.vm);
  if (decided !== null) return decided;
  try {
    return planFrom({
      wish,
      point,
      target,
      vmi: findObject(point.bundle, "VirtualMachineInstance", point.bundle.name),
    });
  } catch (error) {
    if (error instanceof RestoreStop) return error.decision;
    throw error;
  }
}

/** What follows from a machine that is there already, whatever the restore point has; null where that is not enough to know. */
export function decideExisting(
  wish: RestoreWish,
  vm: VirtualMachine | null,
): Exclude<RestoreDecision, { readonly kind: "restore" }> | null {
  if (vm === null) return null;
  const { annotations = {} } = vm.metadata;
  if (annotations[restoredAnnotation] === wish.uid) return { kind: "restored" };
  if (annotations[restoreAnnotation] === wish.uid || wish.existing === "Replace") return null;
  const title = `the VirtualMachine ${wish.namespace}/${wish.name}`;
  if (wish.existing === "Skip") return { kind: "skip", message: `${title} is there already` };
  const message = `${title} is there already: restore under another name, or set existing to Replace to overwrite its disks`;
  return { kind: "refuse", reason: "TargetExists", message };
}

function planFrom(context: ClaimContext): RestoreDecision {
  const { wish, point, target } = context;
  const vm = findObject(point.bundle, "VirtualMachine", point.bundle.name) as VirtualMachine | null;
  if (vm === null) {
    const message = "the restore point was not made of a VirtualMachine, so there is none to make: restore its disks to a libvirt target";
    throw refusal("VirtualMachineNotInPoint", message);
  }
  const isOurs = target.vm?.metadata.annotations?.[restoreAnnotation] === wish.uid;
  if (target.vm !== null && !isOurs) return planReplace(context, target.vm, vm);
  return planNew(context, vm, chooseDisks(context));
}

/** The point's disks that are to be restored. */
function chooseDisks({ wish, point }: ClaimContext): readonly Disk[] {
  const unknown = Object.keys(wish.disks).filter((name) => !point.disks.some((disk) => disk.name === name));
  if (unknown.length > 0) {
    const has = point.disks.map(({ name }) => name).join(", ");
    throw refusal("DiskNotFound", `the restore point of ${point.bundle.name} has no disk ${unknown.join(", ")}: it has ${has}`);
  }
  const chosen = point.disks.filter(({ name }) => wish.disks[name]?.skip !== true);
  if (chosen.length === 0) throw refusal("DiskNotFound", "every disk of the restore point is to be skipped: leave at least one");
  return chosen;
}

/** Overwrites the disks of a machine that is there, and nothing else of it: its definition is its owner's. */
function planReplace(context: ClaimContext, vm: VirtualMachine, original: VirtualMachine): RestoreDecision {
  const { wish, target } = context;
  const title = `the VirtualMachine ${wish.namespace}/${wish.name}`;
  if ((target.vmi !== null && !isFinal(target.vmi)) || wantsToRun({ vm, vmi: target.vmi })) {
    throw refusal("TargetRunning", `${title} runs, or is to run: stop it, and the restore begins`);
  }
  const disks = chooseDisks(context).map((disk) => existingDisk(vm, disk, context));
  assertUnused(disks, context);
  return {
    kind: "restore",
    steps: [],
    // From the first byte on bitmaps of these disks are not to be believed, and nobody is to start the machine.
    before: { annotations: { [lastRestoreAnnotation]: wish.uid }, runStrategy: "Halted" },
    disks,
    stateClaim: null,
    revisions: [],
    after: lastPatch(wish, original),
    warnings: [],
  };
}

function existingDisk(vm: VirtualMachine, { name, sizeBytes }: Disk, { wish, target }: ClaimContext): RestoredDisk {
  const volume = volumesOf(vm).find((one) => one.name === name);
  const wanted = volume === undefined ? undefined : claimNameOf(volume);
  const claim = target.claims.find(({ metadata }) => metadata.name === wanted);
  if (wanted === undefined || claim === undefined) {
    throw refusal("DiskNotFound", `${wish.name} has no volume for disk ${name} of the restore point: add one, or skip the disk`);
  }
  const capacity = capacityOf(claim);
  if (capacity < sizeBytes) {
    throw refusal("TargetTooSmall", `the volume ${wanted} has ${capacity} bytes, and disk ${name} needs ${sizeBytes}: enlarge it`);
  }
  return { disk: name, claim: wanted, mode: volumeModeOf(claim), sizeBytes };
}

/** What a claim has, as far as it says. */
function capacityOf({ status }: Claim): number {
  return parseQuantity(status?.capacity?.["storage"] ?? "") ?? Infinity;
}

function volumesOf({ spec }: VirtualMachine): readonly VmVolume[] {
  return spec?.template?.spec?.volumes ?? [];
}
