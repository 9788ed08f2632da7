import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** `not-json`: no JSON at all; `version`: of a contract this program does not know; `invalid`: a field is not as the contract has it. */
export type ContractErrorCode = "not-json" | "version" | "invalid";

/** A message between controller and agent is not as docs/operator.md has it. The sentence names the field; what was in it is never quoted. */
export class ContractError extends ThinstreamError<ContractErrorCode> {
  override readonly name = "ContractError";

  constructor(code: ContractErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}
