import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** The closed list of what can go wrong at an NBD server. */
export type NbdErrorCode =
  | "library-missing"
  | "connect-failed"
  | "timeout"
  | "context-missing"
  | "closed"
  | "disconnected"
  | "io"
  | "out-of-range"
  | "misaligned"
  | "unsupported"
  | "bad-reply"
  | "server-missing"
  | "server-failed";

/** An NBD server refused or failed, or was asked for what it cannot do. */
export class NbdError extends ThinstreamError<NbdErrorCode> {
  override readonly name = "NbdError";

  constructor(code: NbdErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}
