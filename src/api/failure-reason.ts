/**
 * Why a run failed, in one word for conditions, events and metrics. `true`: the same work may succeed later or on another node without anybody
 * changing anything, so the controller tries again; `false`: somebody has to act first.
 */
const retryable = {
  /** the store does not answer, or answers with errors of its own */
  RepositoryUnreachable: true,
  /** the store answers and says no: credentials, permissions, no conditional writes */
  RepositoryRefused: false,
  /** no bucket, or no repository in it */
  RepositoryMissing: false,
  /** what every point needs cannot be read, or the store does not give back what it was given */
  RepositoryDamaged: false,
  /** the repository was written by a later release */
  RepositoryTooNew: false,
  WrongKey: false,
  BucketFull: false,
  /** no such domain on this node: it may be on another by now */
  DomainNotFound: true,
  HypervisorUnreachable: true,
  /** libvirt or QEMU are too old, or it is not QEMU */
  HypervisorNotSupported: false,
  /** another backup of the machine, or a job of another program on it */
  AnotherJobActive: true,
  GuestNotFrozen: true,
  DiskNotFound: false,
  DiskNotSupported: false,
  /** a machine or another program has the disk of a stopped machine open, or wrote to it */
  DiskInUse: true,
  /** the machine was stopped, moved, or its backup job was ended during the backup */
  SourceLost: true,
  ScratchFull: true,
  PointNotFound: false,
  PointDamaged: false,
  TargetTooSmall: false,
  TargetFull: false,
  TargetInUse: true,
  TargetNotUsable: false,
  WorkOrderTampered: false,
  WorkOrderInvalid: false,
  /** the run's time is over, however often it is tried */
  DeadlineExceeded: false,
  /** SIGTERM: the pod was evicted or deleted */
  Cancelled: true,
  /** nobody came for what an agent served */
  NotFetched: true,
  Internal: true,
} as const satisfies Readonly<Record<string, boolean>>;

export type FailureReason = keyof typeof retryable;

export const failureReasons: readonly FailureReason[] = Object.keys(retryable) as FailureReason[];

export function isRetryable(reason: FailureReason): boolean {
  return retryable[reason];
}
