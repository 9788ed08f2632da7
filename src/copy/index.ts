/** Copies restore points from one repository to another, whatever their keys and stores. */
export { copyPoints, type CopiedPoint, type CopyReport } from "./copy-points.ts";
export { CopyError, type CopyErrorCode } from "./errors.ts";
export type { PassedOver, Wanted } from "./plan-copy.ts";
export type { CopyProgress, CopyRequest, CopyStep } from "./work.ts";
