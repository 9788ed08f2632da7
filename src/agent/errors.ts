import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** The closed list of why a machine's disks cannot be had. */
export type SourceErrorCode =
  | "no-domain"
  | "not-running"
  | "running"
  | "no-such-disk"
  | "no-disks"
  | "unsupported-hypervisor"
  | "busy"
  | "foreign-job"
  | "freeze-failed"
  | "no-space"
  | "path-too-long"
  | "image-unusable"
  | "image-in-use"
  | "image-changed"
  | "tool-missing"
  | "job-lost"
  | "job-stuck";

/** A machine's disks cannot be had, or were lost during the backup. */
export class SourceError extends ThinstreamError<SourceErrorCode> {
  override readonly name = "SourceError";

  constructor(code: SourceErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}
