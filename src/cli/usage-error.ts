import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** The command line itself is wrong: exit code 2. */
export class UsageError extends ThinstreamError<"usage"> {
  override readonly name = "UsageError";

  constructor(message: string, details: ErrorDetails = {}) {
    super("usage", message, details);
  }
}
