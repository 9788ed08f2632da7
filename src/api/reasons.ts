/**
 * The closed list of condition types of every kind, and of the reasons each can have. `Ready` sums up a kind that lasts, `Succeeded` one
 * that ends (Unknown until then, never changed after). `Reconciling` and `Stalled` are kstatus's: there only while they are True, and never
 * both.
 */

/** What keeps an object from going on until somebody changes something: reasons of Stalled, and of the summary's False. */
const repositoryTrouble = ["RepositoryNotFound", "RepositoryNotReady", "NamespaceNotAllowed"] as const;
const reconciling = ["Progressing", "Retrying", "Deleting"] as const;

const unusableRepository = [
  /** a Secret is missing, or lacks an entry */
  "CredentialsMissing",
  "AccessDenied",
  "BucketNotFound",
  "EndpointUnreachable",
  "CertificateNotTrusted",
  /** the store has no conditional writes: two backups could overwrite each other */
  "ConditionalWritesMissing",
  "KeyMissing",
  /** the Secret's entry is no key file */
  "KeyUnreadable",
  /** a good key, of another repository */
  "WrongKey",
  /** another repository than before lies at the location */
  "RepositoryReplaced",
  "FormatNotSupported",
  "RepositoryDamaged",
] as const;

/** of upkeep: no schedule, or its first time is to come, or nobody can read it */
const unscheduled = ["NotScheduled", "NotYetDue", "ScheduleInvalid"] as const;

export const backupRepositoryReasons = {
  Ready: ["Available", "Connecting", "CatalogNotSynced", ...unusableRepository],
  Reachable: [
    "Reached",
    "Connecting",
    "CredentialsMissing",
    "AccessDenied",
    "BucketNotFound",
    "EndpointUnreachable",
    "CertificateNotTrusted",
    "ConditionalWritesMissing",
  ],
  KeyAvailable: ["KeyMatches", "NotEncrypted", "NotChecked", "KeyMissing", "KeyUnreadable", "WrongKey"],
  CatalogSynced: ["Synced", "NotSyncedYet", "SyncFailed", "RepositoryReplaced", "FormatNotSupported", "RepositoryDamaged"],
  Pruned: ["Pruned", "NothingMayGo", "PruneFailed", ...unscheduled],
  Sound: ["NoDamageFound", "DamageFound", "NothingCompared", "CheckFailed", ...unscheduled],
  Locked: ["Locked", "NotAllLocked", "LockFailed", ...unscheduled],
  Reconciling: reconciling,
  Stalled: unusableRepository,
} as const;

const brokenPolicy = [...repositoryTrouble, "SelectorInvalid", "ScheduleInvalid", "NeverDue"] as const;

export const backupPolicyReasons = {
  /** `ManualOnly` and `Suspended` are True: the policy does what it says */
  Ready: ["Scheduled", "ManualOnly", "Suspended", "NothingSelected", "NotReadYet", ...brokenPolicy],
  Protected: ["WithinRPO", "RPOMissed", "NotBackedUp", "NoRPO", "NothingSelected", "NotReadYet"],
  Reconciling: reconciling,
  Stalled: brokenPolicy,
} as const;

/** Why a virtual machine that a policy selects is not protected. */
export const unprotectedReasons = [
  "NeverBackedUp",
  "RPOMissed",
  /** another policy, which comes first by name, backs it up already */
  "OtherPolicy",
  "NamespaceNotAllowed",
  /** no disk of it can be backed up */
  "DisksNotSupported",
  "BackupFailed",
] as const;

const refusedRun = [
  ...repositoryTrouble,
  /** what the run needs breaks a quota or a policy of admission, or the operator lacks a right */
  "RefusedByCluster",
  "VirtualMachineNotFound",
  "DomainNotFound",
  "NodeNotFound",
  /** the request names what only requests in the operator's own namespace may */
  "NotPermitted",
  "DisksNotSupported",
  "DiskNotFound",
] as const;

/** What an attempt is doing, or why it is not doing anything yet. */
const runWaits = ["NotStarted", "WaitingForSlot", "WaitingForWindow", "AgentStarting", "BackingOff"] as const;

/** How a run ends that had begun. */
const failedRun = [
  "DeadlineExceeded",
  "BackoffLimitExceeded",
  "Cancelled",
  /** the agent found its work order changed on the way */
  "WorkOrderRejected",
] as const;

export const virtualMachineBackupReasons = {
  Succeeded: [
    "Completed",
    "CompletedWithWarnings",
    ...runWaits,
    "WaitingForMigration",
    /** KubeVirt, or another product through it, backs the machine up now */
    "WaitingForOtherBackup",
    /** a stopped machine's volume is attached to another node */
    "WaitingForVolume",
    "BackingUp",
    ...refusedRun,
    ...failedRun,
    /** the policy's backup window closed on it */
    "WindowClosed",
    /** it could not start before the policy's starting deadline */
    "StartingDeadlineExceeded",
    /** consistency is Required, and the guest could not be frozen */
    "FreezeFailed",
  ],
  Reconciling: reconciling,
  Stalled: refusedRun,
} as const;

export const restorePointReasons = {
  Ready: ["InRepository", "NotInRepository", "RepositoryNotFound", "RepositoryNotReady", "NotForgotten"],
  Verified: ["NotChecked", "Checked", "DamageFound"],
  Reconciling: reconciling,
  Stalled: ["RepositoryNotFound", "RepositoryNotReady"],
} as const;

const refusedRestore = [
  ...repositoryTrouble,
  "RefusedByCluster",
  /** the node of the agent that writes does not answer, and it may write on */
  "NodeLost",
  "RestorePointNotFound",
  /** the point is of a libvirt domain, and a VirtualMachine is to be made of it */
  "VirtualMachineNotInPoint",
  "NamespaceNotFound",
  "NodeNotFound",
  "NotPermitted",
  "DiskNotFound",
  /** this release cannot restore to such a target */
  "TargetNotSupported",
  /** there is a virtual machine of this name, and `existing` is Fail */
  "TargetExists",
  /** it has to be stopped first */
  "TargetRunning",
  "StorageClassNotFound",
  /** the target's disk is smaller than the point's */
  "TargetTooSmall",
] as const;

export const restoreRequestReasons = {
  Succeeded: [
    "Completed",
    "CompletedWithWarnings",
    /** there is a virtual machine of this name, and `existing` is Skip */
    "Skipped",
    ...runWaits,
    "WaitingForVolume",
    /** an agent reads what was captured with the point */
    "ReadingPoint",
    "CreatingObjects",
    "Restoring",
    ...refusedRestore,
    ...failedRun,
    "RepositoryDamaged",
  ],
  Reconciling: reconciling,
  Stalled: refusedRestore,
} as const;
