import { claimNameOf, identityOf, type MachineFacts, volumeModeOf } from "./facts.ts";
import type { Claim, InstanceSpec, VmVolume, Volume } from "./objects.ts";
import { placeOf } from "./place.ts";
import { devicesOf, type LeftOut, leftOutOf, type UnsupportedReason, unsupportedOf } from "./volume-kinds.ts";

/** A disk of a machine that can be backed up: its volume, claim and place. */
export interface BoundDisk {
  /** the name of the volume, which is the disk's in restore points */
  readonly volume: string;
  readonly claim: string;
  readonly claimUid: string;
  readonly volumeName: string;
  readonly mode: "Filesystem" | "Block";
  readonly accessModes: readonly string[];
  readonly storageClass: string | null;
  /** Where the kubelet puts it: below the directory of the pod that has it, or absolute. */
  readonly place: string;
  /** Plugged in while the machine runs: the launcher has it elsewhere. */
  readonly hotplugged: boolean;
}

export interface DiskSurvey {
  readonly disks: readonly BoundDisk[];
  readonly leftOut: readonly LeftOut[];
  /** Persistent data that cannot be had. The machine is not backed up without it, unless the request leaves it out by name. */
  readonly unsupported: readonly { readonly volume: string; readonly reason: UnsupportedReason; readonly message: string }[];
  /** Names that are to be left out, and are none of the machine's. */
  readonly unknown: readonly string[];
  /** Claims that are not there, or hold nothing yet. */
  readonly notReady: readonly { readonly volume: string; readonly message: string }[];
}

/** What becomes of each volume of a machine. */
export function surveyDisks(spec: InstanceSpec, facts: MachineFacts, excluded: readonly string[]): DiskSurvey {
  const volumes = spec.volumes ?? [];
  const unknown = excluded.filter((name) => !volumes.some((volume) => volume.name === name));
  const outcomes = volumes.map((volume): Outcome => {
    if (excluded.includes(volume.name)) {
      return { leftOut: { volume: volume.name, reason: "Excluded", message: `disk ${volume.name} is left out, as the request says` } };
    }
    const devices = devicesOf(spec, volume);
    const leftOut = leftOutOf(volume, devices);
    if (leftOut !== null) return { leftOut };
    const barrier = unsupportedOf(volume, devices);
    return barrier === null ? bind(volume, facts) : unsupported(volume.name, ...barrier);
  });
  const all = <Key extends keyof Outcome>(key: Key): NonNullable<Outcome[Key]>[] => outcomes.flatMap((one) => one[key] ?? []);
  return { disks: all("disk"), leftOut: all("leftOut"), unsupported: all("unsupported"), notReady: all("notReady"), unknown };
}

/** What becomes of one volume: one of these. */
interface Outcome {
  readonly disk?: BoundDisk;
  readonly leftOut?: LeftOut;
  readonly unsupported?: DiskSurvey["unsupported"][number];
  readonly notReady?: DiskSurvey["notReady"][number];
}

function unsupported(volume: string, reason: UnsupportedReason, what: string): Outcome {
  return { unsupported: { volume, reason, message: `disk ${volume} ${what}; to back up the others, name it under disks.exclude` } };
}

function bind(volume: VmVolume, facts: MachineFacts): Outcome {
  const { name } = volume;
  const found = claimOf(volume, facts);
  if (typeof found === "string") return { notReady: { volume: name, message: `disk ${name}: ${found}` } };
  const { claim, persistentVolume } = found;
  const { accessModes = [], storageClassName = null } = claim.spec ?? {};
  const mode = volumeModeOf(claim);
  const place = placeOf(persistentVolume, mode);
  const volumeName = identityOf(persistentVolume).name;
  if (place === null) {
    return unsupported(name, "UnknownVolume", `lies in the PersistentVolume ${volumeName}, of a kind whose place on a node is not known`);
  }
  const { name: claimName, uid: claimUid } = identityOf(claim);
  const common = { volumeName, mode, accessModes, storageClass: storageClassName, place } as const;
  return { disk: { volume: name, claim: claimName, claimUid, ...common, hotplugged: isHotplugged(name, facts) } };
}

function isHotplugged(volume: string, { vmi }: MachineFacts): boolean {
  return vmi?.status?.volumeStatus?.some(({ name, hotplugVolume }) => name === volume && hotplugVolume !== undefined) === true;
}

/** The claim of a volume and what it is bound to, or why it cannot be used yet. */
function claimOf(volume: VmVolume, facts: MachineFacts): { readonly claim: Claim; readonly persistentVolume: Volume } | string {
  const name = claimNameOf(volume);
  const claim = facts.claims.find(({ metadata }) => metadata.name === name);
  const trouble = claim === undefined ? "is not there" : claimTrouble(claim);
  if (claim === undefined || trouble !== null) return `its PersistentVolumeClaim ${name} ${trouble}`;
  const persistentVolume = facts.volumes.find(({ metadata }) => metadata.name === claim.spec?.volumeName);
  return persistentVolume === undefined
    ? `the PersistentVolume ${claim.spec?.volumeName} of its claim is not there`
    : { claim, persistentVolume };
}

function claimTrouble({ metadata, spec, status }: Claim): string | null {
  if (metadata.deletionTimestamp !== undefined) return "is being deleted";
  const phase = status?.phase ?? "Pending";
  if (phase !== "Bound" || spec?.volumeName === undefined) return `is ${phase}, not Bound`;
  return metadata.annotations?.["cdi.kubevirt.io/storage.condition.running"] === "true" ? "is still being filled by CDI" : null;
}
