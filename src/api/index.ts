/** What controller and agents say to each other: docs/operator.md as schemas and types. */
export {
  type AgentResult,
  type FailedResult,
  failedResult,
  formatAgentResult,
  MAX_RESULT_BYTES,
  parseAgentResult,
  type ResultDisk,
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
export { ContractError, type ContractErrorCode } from "./contract-error.ts";
export { type FailureReason, failureReasons, isRetryable } from "./failure-reason.ts";
export type { PointSummary } from "./point-summary.ts";
export {
  type BackupWork,
  type BackupWorkSource,
  type ForgetWork,
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
