import type { VirtualMachine, VmVolume } from "./objects.ts";
import { type ClaimContext, planClaim, planStateClaim, type PlannedClaim } from "./restore-claim.ts";
import { configWarnings, planConfig } from "./restore-config.ts";
import { planRevisions } from "./restore-flavors.ts";
import { planMachine, runStrategyOf } from "./restore-machine.ts";
import { type PointFacts, refusal, restoreAnnotation, restoredAnnotation, type RestorePlan, type RestoreWish } from "./restore-request.ts";
import { assertUnused } from "./restore-use.ts";

type Disk = PointFacts["disks"][number];

/** A machine that is not there yet: everything it needs in the order it needs it, then itself, stopped. */
export function planNew(context: ClaimContext, vm: VirtualMachine, chosen: readonly Disk[]): RestorePlan {
  const { wish, point, target } = context;
  const volumes = volumesOf(vm, context);
  const planned = chosen.map(({ name, sizeBytes }) => ({ disk: name, sizeBytes, ...claimFor(name, sizeBytes, { volumes, context }) }));
  const disks = planned.map(({ disk, claim, mode, sizeBytes }) => ({ disk, claim, mode, sizeBytes }));
  const state = planStateClaim(context);
  const claims = [...planned, ...(state === null ? [] : [state])];
  assertFree(claims, context);
  assertUnused(disks, context);
  const revisions = planRevisions({ wish, point, vm });
  const regenerate = target.sourceExists ? "Regenerate" : "Preserve";
  const machine = planMachine({
    ...context,
    vm,
    identity: { macAddresses: regenerate, firmwareUUID: regenerate, ...wish.identity },
    restored: new Set(chosen.map(({ name }) => name)),
    dropped: new Set(volumes.filter((volume) => isDropped(volume, wish)).map(({ name }) => name)),
    revisions: revisions.names,
  });
  return {
    kind: "restore",
    steps: [...planConfig(point.bundle, wish), ...claims.map(({ step }) => step), ...revisions.steps, machine],
    before: null,
    disks,
    stateClaim: state?.claim ?? null,
    revisions: [...revisions.names.values()],
    after: lastPatch(wish, vm),
    warnings: [
      ...diskWarnings(vm, volumes, context),
      ...(state !== null && keptState(vm, context) ? [stateWarning] : []),
      ...configWarnings(point.bundle, wish, target),
    ],
  };
}

/** The change that ends a restore: the machine is marked as restored, and may run. */
export function lastPatch(wish: RestoreWish, original: VirtualMachine): RestorePlan["after"] {
  const runStrategy = wish.runStrategy === "Original" ? runStrategyOf(original) : wish.runStrategy;
  return { annotations: { [restoredAnnotation]: wish.uid }, runStrategy };
}

const stateWarning = "the machine's TPM and EFI state begins anew: a restore point has its disks alone";

/** Whether the claim had more in it than change lists. What a preference asked for is only seen in an instance. */
function keptState({ spec }: VirtualMachine, { vmi }: ClaimContext): boolean {
  if (vmi === null && spec?.preference !== undefined) return true;
  const domains = [spec?.template?.spec?.domain, vmi?.spec?.domain];
  return domains.some((domain) => domain?.devices?.tpm?.persistent === true || domain?.firmware?.bootloader?.efi?.persistent === true);
}

/** Those of the definition, and those that were plugged into the running instance. */
function volumesOf(vm: VirtualMachine, { vmi }: ClaimContext): readonly VmVolume[] {
  return [vm.spec?.template?.spec, vmi?.spec].flatMap((spec) => spec?.volumes ?? []);
}

function claimFor(
  name: string,
  sizeBytes: number,
  { volumes, context }: { readonly volumes: readonly VmVolume[]; readonly context: ClaimContext },
): PlannedClaim {
  return planClaim(volumes.find((volume) => volume.name === name) ?? { name }, sizeBytes, context);
}

/** A dump of memory is no disk of a machine, and one that is skipped is no part of a new one. */
function isDropped({ name, memoryDump }: VmVolume, wish: RestoreWish): boolean {
  return memoryDump !== undefined || wish.disks[name]?.skip === true;
}

function diskWarnings(vm: VirtualMachine, volumes: readonly VmVolume[], { wish, point }: ClaimContext): readonly string[] {
  const own = new Set((vm.spec?.template?.spec?.volumes ?? []).map(({ name }) => name));
  const has = new Set(point.disks.map(({ name }) => name));
  const plugged = [...has].filter((name) => !own.has(name) && wish.disks[name]?.skip !== true);
  const without = volumes.filter(
    ({ name, persistentVolumeClaim, dataVolume }) => !has.has(name) && (persistentVolumeClaim ?? dataVolume) !== undefined,
  );
  return [
    ...plugged.map((name) => `disk ${name} was plugged into the running machine; it is a permanent disk of the restored one`),
    ...[...new Set(without.map(({ name }) => name))].map(
      (name) => `disk ${name} is not in the restore point: its claim has to be there before the machine starts`,
    ),
  ];
}

/** No claim of another's has a name that is needed. */
function assertFree(claims: readonly PlannedClaim[], { wish, target }: ClaimContext): void {
  const foreign = target.claims.filter(({ metadata }) => metadata.annotations?.[restoreAnnotation] !== wish.uid);
  const taken = claims.find(({ claim }) => foreign.some(({ metadata }) => metadata.name === claim));
  if (taken === undefined) return;
  throw refusal(
    "TargetExists",
    `there is a PersistentVolumeClaim ${taken.claim} in ${wish.namespace} already: remove it, or restore under another name`,
  );
}
