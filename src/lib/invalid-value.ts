import { type ErrorDetails, ThinstreamError } from "./errors.ts";

/** A text given by a person (a flag, an environment variable, a field) does not mean anything we know. */
export class InvalidValueError extends ThinstreamError<"invalid-value"> {
  override readonly name = "InvalidValueError";

  constructor(message: string, details: ErrorDetails = {}) {
    super("invalid-value", message, details);
  }
}
