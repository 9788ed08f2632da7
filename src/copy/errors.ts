import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** The closed list of why nothing, or nothing more, is copied. */
export type CopyErrorCode = "same-repository" | "no-points" | "target-changed";

/** A copy that makes no sense, or no sense any more; what the repositories and their stores throw is thrown as it is. */
export class CopyError extends ThinstreamError<CopyErrorCode> {
  override readonly name = "CopyError";

  constructor(code: CopyErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}
