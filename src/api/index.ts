import type { Kind } from "./kind.ts";
import { backupPolicy } from "./v1alpha1/backup-policy.ts";
import { backupRepository } from "./v1alpha1/backup-repository.ts";
import { restorePoint } from "./v1alpha1/restore-point.ts";
import { restoreRequest } from "./v1alpha1/restore-request.ts";
import { virtualMachineBackup } from "./v1alpha1/virtual-machine-backup.ts";

/** Every kind of the group. */
export const kinds: readonly Kind[] = [backupRepository, backupPolicy, virtualMachineBackup, restorePoint, restoreRequest];

export type { LabelSelector } from "./common.ts";
export * from "./conditions.ts";
export { type CustomResourceDefinition, customResourceDefinition, definitionAnnotation, type Json } from "./crd.ts";
export { cronMacros, cronPattern } from "./cron.ts";
export { apiVersion, type Column, group, type Kind, type ObjectMeta, type OwnerReference, type Resource, version } from "./kind.ts";
export * from "./names.ts";
export * from "./reasons.ts";
export { type BackupPolicy, backupPolicy, type Retention } from "./v1alpha1/backup-policy.ts";
export { type BackupRepository, backupRepository } from "./v1alpha1/backup-repository.ts";
export { type RestorePoint, restorePoint } from "./v1alpha1/restore-point.ts";
export { type RestoreRequest, restoreRequest } from "./v1alpha1/restore-request.ts";
export { type VirtualMachineBackup, virtualMachineBackup } from "./v1alpha1/virtual-machine-backup.ts";
export { durationMs, formatQuantity, parseQuantity, quantityBytes } from "./values.ts";
/** What controller and agents say to each other: docs/operator.md as schemas and types. */
export {
  type AgentResult,
  type FailedResult,
  failedResult,
  formatAgentResult,
  MAX_RESULT_BYTES,
  parseAgentResult,
  type ResultDisk,
  type StoreRequests,
  type PrunedResult,
  type CheckedResult,
  type LockedResult,
  MAX_DAMAGED,
  type SucceededResult,
} from "./agent-result.ts";
export {
  type AgentProgress,
  answerPlace,
  bodyPlace,
  type CaptureMessage,
  type CapturesMessage,
  CATALOG_PAGE,
  type EmptyMessage,
  type FrozenMessage,
  parseCapture,
  parseCaptures,
  parseEmpty,
  parseFrozen,
  parsePointsPage,
  parseProgress,
  type Phase,
  phases,
  type PointsPage,
  SERVING_MS,
  WAIT_MS,
} from "./channel.ts";
export { type ControllerConfigFile, parseControllerConfig } from "./controller-config.ts";
export { ContractError, type ContractErrorCode } from "./contract-error.ts";
export { type FailureReason, failureReasons, isRetryable } from "./failure-reason.ts";
export type { PointSummary } from "./point-summary.ts";
export {
  type BackupWork,
  type BackupWorkSource,
  type CatalogWork,
  type ForgetWork,
  type CheckWork,
  type LockWork,
  type InspectWork,
  MAX_ORDER_BYTES,
  parseWorkOrder,
  type RestoreWork,
  type RunIdentity,
  type Work,
  type WorkOrder,
  workOrderSchema,
  type WorkType,
} from "./work-order.ts";
