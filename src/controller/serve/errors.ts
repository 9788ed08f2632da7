import { type ErrorDetails, ThinstreamError } from "../../lib/errors.ts";

/** The controller's own endpoints cannot be served. */
export class EndpointError extends ThinstreamError<"port-unavailable"> {
  override readonly name = "EndpointError";

  constructor(message: string, details: ErrorDetails = {}) {
    super("port-unavailable", message, details);
  }
}
