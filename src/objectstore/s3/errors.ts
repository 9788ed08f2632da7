import { scrubText } from "../../lib/scrub.ts";
import { StoreError, type StoreErrorCode } from "../errors.ts";

/** What the SDK or Node threw, without the request, the response and their headers: those hold signatures and key ids. */
export class S3Failure extends Error {
  override readonly name: string;
  /** HTTP status; 0 when there was no answer */
  readonly status: number;
  /** For the store's operator; empty when there is none. */
  readonly requestId: string;

  constructor(name: string, message: string, status: number, requestId: string) {
    super(message);
    this.name = name;
    this.status = status;
    this.requestId = requestId;
  }
}

const byName: Readonly<Record<string, StoreErrorCode>> = {
  NoSuchKey: "not-found",
  NotFound: "not-found",
  NoSuchBucket: "bucket-missing",
  AccessDenied: "access-denied",
  InvalidAccessKeyId: "access-denied",
  SignatureDoesNotMatch: "access-denied",
  ExpiredToken: "access-denied",
  InvalidToken: "access-denied",
  RequestTimeTooSkewed: "access-denied",
  CredentialsProviderError: "access-denied",
  PreconditionFailed: "already-exists",
  InvalidRange: "out-of-range",
  EntityTooLarge: "too-large",
  SlowDown: "unavailable",
  InternalError: "unavailable",
  ServiceUnavailable: "unavailable",
  ConditionalRequestConflict: "unavailable",
  RequestTimeout: "timeout",
  TimeoutError: "timeout",
  BadDigest: "checksum-mismatch",
  XAmzContentChecksumMismatch: "checksum-mismatch",
  XAmzContentSHA256Mismatch: "checksum-mismatch",
  XMinioStorageFull: "no-space",
  XMinioAdminBucketQuotaExceeded: "no-space",
  QuotaExceeded: "no-space",
  NotEnoughSpace: "no-space",
  NotImplemented: "no-conditional-writes",
  InvalidBucketName: "invalid-url",
  ETIMEDOUT: "timeout",
  ECONNREFUSED: "unavailable",
  ECONNRESET: "unavailable",
  ECONNABORTED: "unavailable",
  EPIPE: "unavailable",
  EHOSTUNREACH: "unavailable",
  ENETUNREACH: "unavailable",
  ENETDOWN: "unavailable",
  ENOTFOUND: "unavailable",
  EAI_AGAIN: "unavailable",
  ERR_STREAM_PREMATURE_CLOSE: "unavailable",
};

const byStatus: Readonly<Record<number, StoreErrorCode>> = {
  401: "access-denied",
  403: "access-denied",
  404: "not-found",
  408: "timeout",
  409: "unavailable",
  412: "already-exists",
  413: "too-large",
  416: "out-of-range",
  429: "unavailable",
  501: "no-conditional-writes",
  507: "no-space",
};

const hintsByName: Readonly<Record<string, string>> = {
  CredentialsProviderError: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives credentials",
  InvalidAccessKeyId: "the store does not know this access key: look at AWS_ACCESS_KEY_ID or the profile, and at the endpoint",
  SignatureDoesNotMatch: "the secret key is not the one of the access key: look at AWS_SECRET_ACCESS_KEY or the profile",
  ExpiredToken: "the session credentials have expired: get new ones",
  RequestTimeTooSkewed: "the clock of this machine is off: set it",
  ENOTFOUND: "the host name of the endpoint is not known: look at the repository URL",
  PermanentRedirect: "the bucket is in another region: give region= in the repository URL",
  AuthorizationHeaderMalformed: "the bucket is in another region: give region= in the repository URL",
};

const hintsByCode: Partial<Record<StoreErrorCode, string>> = {
  "bucket-missing": "create the bucket, or correct its name or the endpoint in the repository URL",
  "access-denied": "allow these credentials to list the bucket and to get and put objects below the prefix",
  "no-space": "free space at the store or raise its quota",
  "invalid-url": "give region= in the repository URL, or set AWS_REGION",
  "no-conditional-writes": "use a store that honours PUT with If-None-Match: *",
};

const tlsFailure = /^(ERR_TLS_|CERT_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED_|UNABLE_TO_(GET|VERIFY))/;

/** What a call was about, for messages. */
export interface S3Call {
  /** e.g. `put packs/ab/cd` */
  readonly doing: string;
  readonly bucket: string;
  /** null means Amazon's own */
  readonly endpoint: string | null;
}

/** What the SDK or Node threw at an S3 call, in the words of the port. */
export function s3Error(thrown: unknown, call: S3Call): StoreError {
  if (thrown instanceof StoreError) return thrown;
  const cause = strip(thrown);
  const code = classify(cause);
  const hint = tlsFailure.test(cause.name)
    ? "name the authority's certificate in NODE_EXTRA_CA_CERTS"
    : (hintsByName[cause.name] ?? hintsByCode[code]);
  return new StoreError(code, messageOf(code, cause, call), hint === undefined ? { cause } : { cause, hint });
}

/** What concerns the whole bucket is said of the bucket first: the key that met it says little to who has to mend it. */
function messageOf(code: StoreErrorCode, cause: S3Failure, { doing, bucket, endpoint }: S3Call): string {
  if (code === "bucket-missing") return `the bucket "${bucket}" does not exist at ${endpoint ?? "Amazon S3"}`;
  const answer = cause.status === 0 ? "" : `, HTTP ${cause.status}`;
  const failed = `cannot ${doing}: ${cause.message} (${cause.name}${answer})`;
  if (code === "no-space") return `the bucket "${bucket}" is full: ${failed}`;
  return code === "access-denied" && cause.status > 0 ? `access to the bucket "${bucket}" is denied: ${failed}` : failed;
}

function classify({ name, message, status }: S3Failure): StoreErrorCode {
  // MinIO calls a full disk an internal error, to be tried again; so do stores that pass on what their file system said.
  if (/no space left on device|disk quota exceeded/i.test(message)) return "no-space";
  // MinIO's word for an object under a lock.
  if (message.includes("WORM protected")) return "access-denied";
  // The SDK has no names for these: a body that is not what its checksum says, one that is cut, and its own configuration.
  if (message.startsWith("Checksum mismatch")) return "checksum-mismatch";
  if (message.startsWith("Connection lost")) return "unavailable";
  if (message.startsWith("Region is missing")) return "invalid-url";
  return byName[name] ?? byStatus[status] ?? (status >= 500 ? "unavailable" : "failed");
}

/** `name` is the S3 error code or, where no answer came, Node's error code. */
function strip(thrown: unknown): S3Failure {
  if (!(thrown instanceof Error)) return new S3Failure("Error", String(thrown), 0, "");
  const cause = thrown.cause instanceof Error && httpStatus(thrown) === 0 && text(thrown, "code") === "" ? thrown.cause : thrown;
  const known = Object.hasOwn(byName, cause.name) || httpStatus(cause) > 0;
  const name = known ? nameOfAnswer(cause) : text(cause, "code") || cause.name;
  return new S3Failure(name, oneLine(cause) || name, httpStatus(cause), text(field(cause, "$metadata"), "requestId"));
}

/** Answers that hold no XML come out as "Unknown" or "UnknownError"; the status then says more. */
function nameOfAnswer(error: Error): string {
  return error.name.startsWith("Unknown") || error.name === "Error" ? "HTTPError" : error.name;
}

function oneLine(error: Error): string {
  // Before it is cut: half of a secret would not be known for one.
  const message = scrubText(error.message.replaceAll(/\s+/g, " ").trim());
  return /^Unknown(Error)?$/.test(message) ? "the store gave no reason" : message.slice(0, 300);
}

function httpStatus(error: Error): number {
  const value = field(field(error, "$metadata"), "httpStatusCode");
  return typeof value === "number" ? value : 0;
}

function text(from: unknown, name: string): string {
  const value = field(from, name);
  return typeof value === "string" ? value : "";
}

function field(from: unknown, name: string): unknown {
  return typeof from === "object" && from !== null ? (Reflect.get(from, name) as unknown) : undefined;
}
