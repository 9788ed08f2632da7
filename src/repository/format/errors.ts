import { type ErrorDetails, ThinstreamError } from "../../lib/errors.ts";

/**
 * `damaged`: bytes are not what was written; `tampered`: nor can accident have made them so; `wrong-key`, `wrong-passphrase`: they may be, but this
 * one does not open them; `newer-format`: written by a later version; `invalid`: a value given by the caller has no place in the format.
 */
export type FormatErrorCode = "damaged" | "tampered" | "wrong-key" | "wrong-passphrase" | "newer-format" | "invalid";

/** Bytes from the repository (or a key file) are not what the format says. */
export class FormatError extends ThinstreamError<FormatErrorCode> {
  override readonly name = "FormatError";

  constructor(code: FormatErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}

export function damaged(message: string, cause?: unknown): FormatError {
  return new FormatError("damaged", message, cause === undefined ? {} : { cause });
}
