import { OrderError, type OrderErrorCode, SourceError, type SourceErrorCode } from "../agent/index.ts";
import { ContractError, type FailedResult, failedResult, type FailureReason } from "../api/index.ts";
import { errorText, ThinstreamError } from "../lib/errors.ts";
import { scrubText } from "../lib/scrub.ts";
import { LibvirtError, type LibvirtErrorCode } from "../libvirt/index.ts";
import { NbdError, type NbdErrorCode } from "../nbd/index.ts";
import { StoreError, type StoreErrorCode } from "../objectstore/index.ts";
import { FormatError, type FormatErrorCode, RepositoryError, type RepositoryErrorCode } from "../repository/index.ts";
import { RestoreError, type RestoreErrorCode } from "../restore/index.ts";
import { UsageError } from "./usage-error.ts";

// Complete by their types: an error that is added does not compile until it has a reason.
const ofOrder: Readonly<Record<OrderErrorCode, FailureReason>> = {
  tampered: "WorkOrderTampered",
  invalid: "WorkOrderInvalid",
  deadline: "DeadlineExceeded",
  "not-fetched": "NotFetched",
  "no-channel": "Internal",
};
const ofSource: Readonly<Record<SourceErrorCode, FailureReason>> = {
  "no-domain": "DomainNotFound",
  "not-running": "SourceLost",
  running: "DiskInUse",
  "no-such-disk": "DiskNotFound",
  "no-disks": "DiskNotSupported",
  "unsupported-hypervisor": "HypervisorNotSupported",
  busy: "AnotherJobActive",
  "foreign-job": "AnotherJobActive",
  "freeze-failed": "GuestNotFrozen",
  "no-space": "ScratchFull",
  "path-too-long": "WorkOrderInvalid",
  "image-unusable": "DiskNotSupported",
  "image-in-use": "DiskInUse",
  "image-changed": "DiskInUse",
  "tool-missing": "Internal",
  "job-lost": "SourceLost",
  "job-stuck": "HypervisorUnreachable",
};
const ofStore: Readonly<Record<StoreErrorCode, FailureReason>> = {
  "not-found": "RepositoryDamaged",
  "bucket-missing": "RepositoryMissing",
  "already-exists": "AnotherJobActive",
  "out-of-range": "RepositoryDamaged",
  "too-large": "RepositoryDamaged",
  "access-denied": "RepositoryRefused",
  "no-space": "BucketFull",
  "no-conditional-writes": "RepositoryRefused",
  "checksum-mismatch": "RepositoryUnreachable",
  unavailable: "RepositoryUnreachable",
  timeout: "RepositoryUnreachable",
  "invalid-key": "Internal",
  "invalid-url": "WorkOrderInvalid",
  closed: "Internal",
  failed: "RepositoryRefused",
};
const ofRepository: Readonly<Record<RepositoryErrorCode, FailureReason>> = {
  "not-a-repository": "RepositoryMissing",
  "already-a-repository": "Internal",
  "point-unknown": "PointNotFound",
  "point-held": "Internal",
  "disk-unknown": "DiskNotFound",
  "commit-lost": "AnotherJobActive",
  "run-too-old": "DeadlineExceeded",
  "read-back-failed": "RepositoryDamaged",
  damaged: "Internal",
  "point-damaged": "PointDamaged",
  "domain-unknown": "PointNotFound",
  "domain-destroyed": "PointNotFound",
  "rotation-lost": "Internal",
  "rotation-unknown": "Internal",
  "rotation-unfinished": "Internal",
  invalid: "Internal",
};
const ofFormat: Readonly<Record<FormatErrorCode, FailureReason>> = {
  damaged: "RepositoryDamaged",
  tampered: "RepositoryDamaged",
  "wrong-key": "WrongKey",
  "wrong-passphrase": "WrongKey",
  "newer-format": "RepositoryTooNew",
  invalid: "WrongKey",
};
const ofRestore: Readonly<Record<RestoreErrorCode, FailureReason>> = {
  "target-exists": "TargetNotUsable",
  "target-missing": "TargetNotUsable",
  "target-too-small": "TargetTooSmall",
  "target-in-use": "TargetInUse",
  "no-space": "TargetFull",
  "tool-failed": "Internal",
  damaged: "PointDamaged",
  invalid: "TargetNotUsable",
};
const ofLibvirt: Readonly<Record<LibvirtErrorCode, FailureReason>> = {
  "library-missing": "Internal",
  unreachable: "HypervisorUnreachable",
  "access-denied": "HypervisorUnreachable",
  closed: "Internal",
  "no-domain": "DomainNotFound",
  "no-checkpoint": "Internal",
  "no-backup": "SourceLost",
  "no-storage": "DiskNotSupported",
  exists: "Internal",
  "checkpoint-inconsistent": "Internal",
  "agent-unresponsive": "GuestNotFrozen",
  timeout: "AnotherJobActive",
  busy: "AnotherJobActive",
  "invalid-state": "SourceLost",
  unsupported: "HypervisorNotSupported",
  "invalid-xml": "Internal",
  failed: "Internal",
};
const ofNbd: Readonly<Record<NbdErrorCode, FailureReason>> = {
  "library-missing": "Internal",
  "connect-failed": "SourceLost",
  timeout: "SourceLost",
  "context-missing": "Internal",
  closed: "Internal",
  disconnected: "SourceLost",
  io: "SourceLost",
  "out-of-range": "Internal",
  misaligned: "Internal",
  unsupported: "Internal",
  "bad-reply": "Internal",
  "server-missing": "Internal",
  "server-failed": "SourceLost",
};

/** The reason of anything that was thrown while an order was carried out. */
export function reasonOf(thrown: unknown, signal: AbortSignal): FailureReason {
  if (thrown instanceof OrderError) return ofOrder[thrown.code];
  if (signal.aborted) return "Cancelled";
  if (thrown instanceof ContractError) return "WorkOrderInvalid";
  // The order's URL means nothing, or its key file cannot be read.
  if (thrown instanceof UsageError) return thrown.cause instanceof StoreError ? "WorkOrderInvalid" : "WrongKey";
  if (thrown instanceof SourceError) return ofSource[thrown.code];
  if (thrown instanceof RestoreError) return ofRestore[thrown.code];
  return storeReason(thrown) ?? machineReason(thrown) ?? "Internal";
}

function storeReason(thrown: unknown): FailureReason | null {
  if (thrown instanceof StoreError) return ofStore[thrown.code];
  if (thrown instanceof RepositoryError) return ofRepository[thrown.code];
  return thrown instanceof FormatError ? ofFormat[thrown.code] : null;
}

function machineReason(thrown: unknown): FailureReason | null {
  if (thrown instanceof LibvirtError) return ofLibvirt[thrown.code];
  return thrown instanceof NbdError ? ofNbd[thrown.code] : null;
}

/** The result of an order that failed, in a sentence that a person without the command line can use. */
export function failureOf(thrown: unknown, signal: AbortSignal): FailedResult {
  const hint = thrown instanceof ThinstreamError ? thrown.hint : undefined;
  // A hint about flags helps nobody who applied a resource.
  const useful = hint === undefined || /(?:^|\s)--[a-z]/.test(hint) ? "" : `. ${hint}`;
  return failedResult(reasonOf(thrown, signal), scrubText(`${errorText(thrown)}${useful}`));
}
