import { formatQuantity, parseQuantity } from "../../../api/index.ts";
import { fitName } from "../naming/names.ts";
import { findObject } from "./bundle.ts";
import { stateLabel } from "./capture.ts";
import { claimNameOf, volumeModeOf } from "./facts.ts";
import type { Claim, Metadata, VirtualMachineInstance, VmVolume } from "./objects.ts";
import { without } from "./marks.ts";
import {
  type DiskWish,
  type PointFacts,
  refusal,
  restoreAnnotation,
  type RestoreStep,
  type RestoreWish,
  type TargetFacts,
} from "./restore-request.ts";

/** What claims of a restored machine are planned from. */
export interface ClaimContext {
  readonly wish: RestoreWish;
  readonly point: PointFacts;
  readonly target: TargetFacts;
  readonly vmi: VirtualMachineInstance | null;
}

export interface PlannedClaim {
  readonly volume: string;
  readonly claim: string;
  readonly mode: "Filesystem" | "Block";
  readonly step: RestoreStep;
}

/** CDI's own default: the share of a file system's bytes that a disk.img in it cannot have. */
const OVERHEAD = 0.06;
const MIB = 2 ** 20;

/** A claim of the bundle, or what is taken for one that it lacks. */
interface FormerClaim {
  readonly labels: Readonly<Record<string, string>>;
  readonly accessModes: readonly string[];
  readonly mode: "Filesystem" | "Block";
  readonly storageClass: string | undefined;
  readonly bytes: number;
}

function formerClaim(claim: Partial<Claim>): FormerClaim {
  const { accessModes = ["ReadWriteOnce"], storageClassName, resources } = claim.spec ?? {};
  const bytes = parseQuantity(resources?.requests?.["storage"] ?? "") ?? 0;
  return { labels: claim.metadata?.labels ?? {}, accessModes, mode: volumeModeOf(claim), storageClass: storageClassName, bytes };
}

function formerName(volume: VmVolume): string {
  return claimNameOf(volume) ?? volume.name;
}

/** Under which name a volume's claim is restored: its own for a machine of the same name, else one made of the new name. */
export function claimName(volume: VmVolume, { wish, point }: Pick<ClaimContext, "wish" | "point">): string {
  return wish.name === point.bundle.name ? formerName(volume) : fitName(`${wish.name}-${volume.name}`);
}

/** The claim for a disk: as it was, but large enough, of a class that is there, and marked so that CDI leaves its contents alone. */
export function planClaim(volume: VmVolume, sizeBytes: number, context: ClaimContext): PlannedClaim {
  const { wish, point, target, vmi } = context;
  const former = formerClaim(findObject(point.bundle, "PersistentVolumeClaim", formerName(volume)) ?? {});
  const disk = wish.disks[volume.name] ?? {};
  const storageClass = classOf(`disk ${volume.name}`, former.storageClass, { disk, wish, target });
  const mode = disk.volumeMode ?? former.mode;
  const needed = mode === "Block" ? sizeBytes : Math.ceil(sizeBytes / (1 - overheadOf(volume.name, vmi)));
  const bytes = Math.max(former.bytes, Math.ceil(needed / MIB) * MIB);
  const name = claimName(volume, context);
  const annotations: Readonly<Record<string, string>> =
    volume.dataVolume === undefined ? {} : { "cdi.kubevirt.io/storage.populatedFor": name };
  return {
    volume: volume.name,
    claim: name,
    mode,
    step: claimStep(name, { wish, former: { ...former, mode, bytes }, storageClass, annotations, labels: {} }),
  };
}

/** The claim of a machine's TPM and EFI state, which KubeVirt finds by its label before the first start; null where it has none. */
export function planStateClaim({ wish, point, target }: ClaimContext): PlannedClaim | null {
  const { bundle } = point;
  const found = bundle.objects.find(({ kind, metadata }) => kind === "PersistentVolumeClaim" && isState(metadata, bundle.name));
  if (found === undefined) return null;
  const former = formerClaim(found);
  const storageClass = classOf("the machine's TPM and EFI state", former.storageClass, { disk: {}, wish, target });
  const name = fitName(`${stateLabel}-${wish.name}-${wish.uid.slice(0, 5)}`);
  const labels = { [stateLabel]: wish.name };
  return { volume: "", claim: name, mode: former.mode, step: claimStep(name, { wish, former, storageClass, annotations: {}, labels }) };
}

function isState({ labels, name }: Metadata, machine: string): boolean {
  return labels?.[stateLabel] === machine || name === `${stateLabel}-${machine}`;
}

/** A class that the request names has to be there. Otherwise the one before, or the cluster's default where that is gone. */
function classOf(
  what: string,
  before: string | undefined,
  { disk, wish, target }: { readonly disk: DiskWish; readonly wish: RestoreWish; readonly target: TargetFacts },
): string {
  const wanted = disk.storageClassName ?? (before === undefined ? undefined : wish.storageClassMapping[before]);
  const has = (name: string): boolean => target.storageClasses.some((one) => one.name === name);
  if (wanted !== undefined) {
    if (has(wanted)) return wanted;
    throw refusal("StorageClassNotFound", `${what} is to have the StorageClass ${wanted}, which the cluster does not have: name another`);
  }
  if (before !== undefined && has(before)) return before;
  const standard = target.storageClasses.find(({ isDefault }) => isDefault);
  if (standard !== undefined) return standard.name;
  const had = before === undefined ? "no StorageClass" : `the StorageClass ${before}, which the cluster does not have`;
  throw refusal("StorageClassNotFound", `${what} had ${had}, and there is no default one: name one in storageClassMapping or disks`);
}

function overheadOf(volume: string, vmi: VirtualMachineInstance | null): number {
  const info = vmi?.status?.volumeStatus?.find(({ name }) => name === volume)?.persistentVolumeClaimInfo;
  const share = Number(info?.filesystemOverhead ?? OVERHEAD);
  return share >= 0 && share < 1 ? share : OVERHEAD;
}

interface ClaimParts {
  readonly wish: RestoreWish;
  readonly former: FormerClaim;
  readonly storageClass: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
}

function claimStep(name: string, { wish, former, storageClass, annotations, labels }: ClaimParts): RestoreStep {
  const kept = without(former.labels, (label, value) => foreignLabel.test(`${label}=${value}`) || label === stateLabel);
  const metadata = {
    name,
    namespace: wish.namespace,
    labels: { ...kept, ...labels },
    annotations: { ...annotations, [restoreAnnotation]: wish.uid },
  };
  const spec = {
    accessModes: former.accessModes,
    volumeMode: former.mode,
    storageClassName: storageClass,
    resources: { requests: { storage: formatQuantity(former.bytes) } },
  };
  return { stage: "claim", ifExists: "own", object: { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata, spec } };
}

/** Labels by which other controllers know what they made themselves. */
const foreignLabel =
  /^(?:app=containerized-data-importer$|.*cdi\.kubevirt\.io\/|restore\.kubevirt\.io\/|alerts\.k8s\.io\/|argocd\.argoproj\.io\/|app\.kubernetes\.io\/(?:managed-by|instance|component|part-of|version)=)/;
