import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** The closed list of why nothing is copied at all. */
export type CopyErrorCode = "same-repository" | "no-points";

/** A copy that makes no sense; what the repositories and their stores throw is thrown as it is. */
export class CopyError extends ThinstreamError<CopyErrorCode> {
  override readonly name = "CopyError";

  constructor(code: CopyErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}
