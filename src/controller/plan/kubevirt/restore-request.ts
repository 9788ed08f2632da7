import type { Bundle, KubeObject } from "./bundle.ts";
import type { Obstacle } from "./facts.ts";
import type { Identity } from "./identity.ts";
import type { Claim, LauncherPod, VirtualMachine, VirtualMachineInstance } from "./objects.ts";

/** What is asked for: a RestoreRequest whose target is a VirtualMachine. */
export interface RestoreWish {
  /** The request's. */
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly existing: "Fail" | "Replace" | "Skip";
  readonly runStrategy: "Original" | "Halted" | "Manual" | "Always" | "RerunOnFailure";
  /** Absent: Preserve, but Regenerate while the machine it comes from exists beside the target. */
  readonly identity: Partial<Identity>;
  readonly disks: Readonly<Record<string, DiskWish>>;
  readonly storageClassMapping: Readonly<Record<string, string>>;
}

export interface DiskWish {
  readonly skip?: boolean;
  readonly storageClassName?: string;
  readonly volumeMode?: "Block" | "Filesystem";
}

/** What the restore point has. */
export interface PointFacts {
  readonly bundle: Bundle;
  readonly disks: readonly { readonly name: string; readonly sizeBytes: number }[];
}

/** What the cluster has where the machine is to be. */
export interface TargetFacts {
  readonly vm: VirtualMachine | null;
  readonly vmi: VirtualMachineInstance | null;
  /** Of the target's namespace, as far as they use claims. */
  readonly pods: readonly LauncherPod[];
  readonly claims: readonly Claim[];
  readonly storageClasses: readonly { readonly name: string; readonly isDefault: boolean }[];
  /** `<kind>/<namespace>/<name>` of what the bundle names and the cluster has. */
  readonly existing: ReadonlySet<string>;
  /** Whether the machine of the restore point (by its UID) exists in this cluster and is not the target. */
  readonly sourceExists: boolean;
  /** Whether CDI is there: without it a VirtualMachine cannot have dataVolumeTemplates. */
  readonly hasCdi: boolean;
}

/** On what a request made: its UID. Found again, it is taken for its own. */
export const restoreAnnotation = "thinstream.dev/restore";
/** On a VirtualMachine: the request that has been fulfilled in it. */
export const restoredAnnotation = "thinstream.dev/restored";

/** An object to create. */
export interface RestoreStep {
  readonly stage: "config" | "claim" | "revision" | "machine";
  readonly object: KubeObject;
  /** What to do where there is one of this name: `keep` it as it is, or go on only if the request made it. */
  readonly ifExists: "keep" | "own";
}

/** A disk for the agent to write. */
export interface RestoredDisk {
  readonly disk: string;
  readonly claim: string;
  readonly mode: "Filesystem" | "Block";
  readonly sizeBytes: number;
}

export type RestoreRefusal =
  "VirtualMachineNotInPoint" | "DiskNotFound" | "TargetExists" | "TargetRunning" | "StorageClassNotFound" | "TargetTooSmall";

export interface RestorePlan {
  readonly kind: "restore";
  /** In this order, before any data is written. The machine does not run. */
  readonly steps: readonly RestoreStep[];
  /** Changes of a machine that is there already, before any data is written; null for a new one. */
  readonly before: MachinePatch | null;
  readonly disks: readonly RestoredDisk[];
  /** The claim for TPM and EFI state, empty; null for a machine without. */
  readonly stateClaim: string | null;
  /** ControllerRevisions that become the machine's own once it has a UID. */
  readonly revisions: readonly string[];
  /** The last change, when all data is written. */
  readonly after: MachinePatch;
  readonly warnings: readonly string[];
}

export interface MachinePatch {
  readonly annotations: Readonly<Record<string, string>>;
  readonly runStrategy: string;
}

export type RestoreDecision =
  | RestorePlan
  /** Everything is as the request wants it. */
  | { readonly kind: "restored" }
  | { readonly kind: "skip"; readonly message: string }
  | ({ readonly kind: "wait" } & Obstacle)
  | { readonly kind: "refuse"; readonly reason: RestoreRefusal; readonly message: string };

/** Thrown inside the planning of a restore, and caught by `planRestore`: nothing more is to be planned. */
export class RestoreStop extends Error {
  readonly decision: RestoreDecision;

  constructor(decision: Exclude<RestoreDecision, RestorePlan | { readonly kind: "restored" }>) {
    super(decision.message);
    this.decision = decision;
  }
}

export function refusal(reason: RestoreRefusal, message: string): RestoreStop {
  return new RestoreStop({ kind: "refuse", reason, message });
}
