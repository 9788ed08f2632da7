import { type ErrorDetails, ThinstreamError } from "../../lib/errors.ts";

/**
 * `tampered`: order or file beside it is not what was ordered; `invalid`: it cannot be carried out as it is written; `deadline`: the run's time is over;
 * `not-fetched`: nobody came for what was served; `no-channel`: the port cannot be had.
 */
export type OrderErrorCode = "tampered" | "invalid" | "deadline" | "not-fetched" | "no-channel";

/** A work order cannot be carried out, whatever the work. */
export class OrderError extends ThinstreamError<OrderErrorCode> {
  override readonly name = "OrderError";

  constructor(code: OrderErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}
