import type {
  Claim,
  KubevirtBackup,
  LauncherPod,
  Metadata,
  Migration,
  VirtualMachine,
  VirtualMachineInstance,
  VmVolume,
  Volume,
} from "./objects.ts";

/** What the API server holds of one virtual machine, as of one moment. */
export interface MachineFacts {
  readonly namespace: string;
  readonly name: string;
  readonly vm: VirtualMachine | null;
  readonly vmi: VirtualMachineInstance | null;
  /** All pods of its namespace that its instance owns or that use its claims. */
  readonly pods: readonly LauncherPod[];
  readonly migrations: readonly Migration[];
  /** VirtualMachineBackups of backup.kubevirt.io in its namespace, and their trackers; none where that is not served. */
  readonly backups: readonly KubevirtBackup[];
  readonly trackers: readonly KubevirtBackup[];
  readonly claims: readonly Claim[];
  readonly volumes: readonly Volume[];
}

/** Why a machine cannot be backed up this moment. */
export type WaitReason =
  | "BeingDeleted"
  | "Starting"
  | "Stopping"
  | "LauncherNotReady"
  | "Migrating"
  | "Evacuating"
  | "MigrationPending"
  | "ForeignBackup"
  | "SnapshotInProgress"
  | "RestoreInProgress"
  | "FrozenByAnother"
  | "VolumeNotReady"
  | "VolumeInUse";

/** Something that keeps a machine from being backed up, and passes. */
export interface Obstacle {
  readonly reason: WaitReason;
  /** What it is and what ends it. */
  readonly message: string;
  readonly lookAgainSeconds: number;
}

export function obstacle(reason: WaitReason, message: string, lookAgainSeconds: number = 15): Obstacle {
  return { reason, message, lookAgainSeconds };
}

/** Whether an instance is one no more: its guest ended, and its pod is gone or going. */
export function isFinal(vmi: VirtualMachineInstance): boolean {
  return vmi.status?.phase === "Succeeded" || vmi.status?.phase === "Failed";
}

/** Whether a pod has run its course and holds no volume. */
export function isOver(pod: LauncherPod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

/** The name and UID every object of the API server has. */
export function identityOf({ metadata }: { readonly metadata: Metadata }): { readonly name: string; readonly uid: string } {
  return { name: metadata.name ?? "", uid: metadata.uid ?? "" };
}

/** The claim behind a volume: a DataVolume's has its name. */
export function claimNameOf({ persistentVolumeClaim, dataVolume }: VmVolume): string | undefined {
  return persistentVolumeClaim?.claimName ?? dataVolume?.name;
}

export function volumeModeOf({ spec }: Partial<Claim>): "Filesystem" | "Block" {
  return spec?.volumeMode === "Block" ? "Block" : "Filesystem";
}
