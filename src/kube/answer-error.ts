import { errorText } from "../lib/errors.ts";
import { type FieldCause, KubeError, type KubeErrorCode } from "./errors.ts";

/** metav1.Status as the server sends it; nothing in it can be relied on. */
interface Status {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: {
    readonly name?: string;
    readonly retryAfterSeconds?: number;
    readonly causes?: readonly { readonly field?: string; readonly reason?: string; readonly message?: string }[];
  };
}

export interface Refusal {
  readonly status: number;
  /** the answer's body, or a watch's `ERROR` object */
  readonly body: unknown;
  readonly retryAfter?: string | undefined;
}

const byStatus: Readonly<Record<number, KubeErrorCode>> = {
  401: "unauthorized",
  403: "forbidden",
  404: "not-found",
  408: "unavailable",
  409: "conflict",
  410: "gone",
  429: "too-many-requests",
};

/** An answer that is not a success, as an error. `doing` completes "cannot …". */
export function refusalError(doing: string, { status, body, retryAfter }: Refusal): KubeError {
  const said = statusOf(body);
  const causes = (said.details?.causes ?? []).slice(0, 20).map(causeOf);
  const code = codeOf(status, said, causes);
  const message = oneLine(said.message ?? textOf(body)) || `the server gave no reason (HTTP ${status})`;
  const hint = hintOf(code, said, status);
  return new KubeError(code, `cannot ${doing}: ${message}`, {
    status,
    causes,
    retryAfterMs: retryAfterOf(retryAfter, said),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** What Node threw on the way to or from the server, as an error. */
export function networkError(doing: string, thrown: unknown): KubeError {
  if (thrown instanceof KubeError) return thrown;
  const code = thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "";
  // A connection refused on two addresses is an AggregateError without a text.
  const text = errorText(thrown) || code || "no connection";
  const certificate = /^(ERR_TLS_|CERT_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED_|UNABLE_TO_(GET|VERIFY))/.test(code);
  const hint = certificate ? "the API server's certificate is not of the authority the configuration names: correct that" : undefined;
  return new KubeError("unavailable", `cannot ${doing}: ${oneLine(text)}`, { cause: thrown, ...(hint === undefined ? {} : { hint }) });
}

function codeOf(status: number, said: Status, causes: readonly FieldCause[]): KubeErrorCode {
  if (said.reason === "AlreadyExists") return "already-exists";
  // After etcd was restored from a backup: our version is one that this server has yet to reach. Listing anew is the cure for both.
  if (causes.some(({ reason }) => reason === "ResourceVersionTooLarge")) return "gone";
  return byStatus[status] ?? (status >= 400 && status < 500 ? "invalid" : "unavailable");
}

function hintOf(code: KubeErrorCode, said: Status, status: number): string | undefined {
  if (code === "not-found" && said.details?.name === undefined) {
    return "the cluster does not know this kind: install its CustomResourceDefinition, or see whether its API is served";
  }
  if (code === "unauthorized") return "the credentials are not known to the cluster or have expired: renew them";
  if (code === "forbidden" && /cannot \w+ resource/.test(said.message ?? "")) {
    return "grant that verb to this user by a Role or ClusterRole and a binding";
  }
  return status === 413 ? "the object is larger than the API server takes" : undefined;
}

function retryAfterOf(header: string | undefined, said: Status): number | undefined {
  const seconds = header === undefined ? said.details?.retryAfterSeconds : Number(header);
  return seconds !== undefined && Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : undefined;
}

function causeOf({ field = "", reason = "", message = "" }: { field?: string; reason?: string; message?: string }): FieldCause {
  return { field, reason, message: oneLine(message) };
}

function statusOf(body: unknown): Status {
  if (typeof body === "object" && body !== null) return body;
  try {
    const parsed: unknown = JSON.parse(textOf(body));
    return typeof parsed === "object" && parsed !== null ? parsed : {};
  } catch {
    return {}; // a proxy's page, or nothing
  }
}

function textOf(body: unknown): string {
  return typeof body === "string" ? body : "";
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim().slice(0, 2000);
}
