import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/**
 * - `not-found`: no such object, or no such kind (its CustomResourceDefinition is not installed)
 * - `already-exists`: an object of that name is there
 * - `conflict`: somebody else changed the object since it was read, or owns a field that was applied
 * - `gone`: the version asked for is forgotten (410): list again
 * - `invalid`: the server does not take the object or the request; `causes` say which fields
 * - `forbidden`, `unauthorized`: what we may not do, and who we are not
 * - `too-many-requests`: slow down; `retryAfterMs` says for how long
 * - `unavailable`: no answer, no answer in time, or a server that is in trouble: try again later
 * - `not-configured`: nothing says where the cluster is, or what says so makes no sense
 */
export type KubeErrorCode =
  | "not-found"
  | "already-exists"
  | "conflict"
  | "gone"
  | "invalid"
  | "forbidden"
  | "unauthorized"
  | "too-many-requests"
  | "unavailable"
  | "not-configured";

/** What the server finds wrong with one field. */
export interface FieldCause {
  /** `spec.schedule`; empty where it concerns the whole */
  readonly field: string;
  readonly reason: string;
  readonly message: string;
}

export interface KubeErrorDetails extends ErrorDetails {
  /** HTTP status; 0 when there was no answer */
  readonly status?: number;
  readonly causes?: readonly FieldCause[];
  readonly retryAfterMs?: number | undefined;
}

/** What a call to the Kubernetes API ends with when it does not succeed. */
export class KubeError extends ThinstreamError<KubeErrorCode> {
  override readonly name = "KubeError";
  /** HTTP status; 0 when there was no answer */
  readonly status: number;
  readonly causes: readonly FieldCause[];
  /** What the server asked to wait before the next try. */
  readonly retryAfterMs: number | undefined;

  constructor(code: KubeErrorCode, message: string, details: KubeErrorDetails = {}) {
    super(code, message, details);
    this.status = details.status ?? 0;
    this.causes = details.causes ?? [];
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** Whether something that was thrown is a `KubeError` with one of these codes. */
export function isKubeError(thrown: unknown, ...codes: readonly KubeErrorCode[]): thrown is KubeError {
  return thrown instanceof KubeError && codes.includes(thrown.code);
}
