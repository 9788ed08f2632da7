import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** The closed list of what can go wrong at an object store. */
export type StoreErrorCode =
  | "not-found"
  | "bucket-missing"
  | "already-exists"
  | "out-of-range"
  | "too-large"
  | "access-denied"
  | "no-space"
  | "no-conditional-writes"
  | "checksum-mismatch"
  | "unavailable"
  | "timeout"
  | "invalid-key"
  | "invalid-url"
  | "closed"
  | "failed";

const temporary: ReadonlySet<StoreErrorCode> = new Set(["unavailable", "timeout", "checksum-mismatch"]);

/** An object store refused or failed; `temporary` says whether the same call may succeed later. */
export class StoreError extends ThinstreamError<StoreErrorCode> {
  override readonly name = "StoreError";
  readonly temporary: boolean;

  constructor(code: StoreErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
    this.temporary = temporary.has(code);
  }
}
