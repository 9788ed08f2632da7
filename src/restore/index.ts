/** Restores: points of a repository written to files and block devices, and defined as machines. */
export { type RestoreJob, restoreByOrder } from "./by-order.ts";
export { type DefinedDomain, type DefineRequest, defineRestored, requireDefinable } from "./define.ts";
export { RestoreError, type RestoreErrorCode } from "./errors.ts";
export { type ImageFormat, type RestoredDisk, type RestoreProgress, type RestoreRequest, runRestore } from "./run-restore.ts";
