/**
 * Base of every error Thinstream throws on purpose.
 *
 * A message says what happened and to what, in one line; `hint` says what to do about it.
 * `code` is a member of the closed list of the module that throws (`StoreError`, `NbdError`, …).
 */
export abstract class ThinstreamError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly hint: string | undefined;

  protected constructor(code: Code, message: string, options: ErrorDetails = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** What may travel with an error besides its code and message. */
export interface ErrorDetails {
  readonly cause?: unknown;
  readonly hint?: string;
}

/** The text of anything that was thrown, for a message that has to quote it. */
export function errorText(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
