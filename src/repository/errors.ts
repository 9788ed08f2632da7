import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

export type RepositoryErrorCode =
  | "not-a-repository"
  | "already-a-repository"
  | "point-unknown"
  | "point-held"
  | "disk-unknown"
  | "commit-lost"
  | "run-too-old"
  | "read-back-failed"
  | "damaged"
  | "point-damaged"
  | "domain-unknown"
  | "domain-destroyed"
  | "rotation-lost"
  | "rotation-unknown"
  | "rotation-unfinished"
  | "invalid";

/** What a repository refuses or cannot do; damage of single objects comes as `FormatError` or `StoreError`. */
export class RepositoryError extends ThinstreamError<RepositoryErrorCode> {
  override readonly name = "RepositoryError";

  constructor(code: RepositoryErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}
