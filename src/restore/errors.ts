import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

export type RestoreErrorCode =
  "target-exists" | "target-missing" | "target-too-small" | "target-in-use" | "no-space" | "tool-failed" | "damaged" | "invalid";

/** A restore cannot go where it was sent, or cannot be whole. */
export class RestoreError extends ThinstreamError<RestoreErrorCode> {
  override readonly name = "RestoreError";

  constructor(code: RestoreErrorCode, message: string, details: ErrorDetails = {}) {
    super(code, message, details);
  }
}

interface Saying {
  readonly code: RestoreErrorCode;
  readonly says: (path: string) => string;
  readonly hint?: string;
}

const full: Saying = {
  code: "no-space",
  says: (path) => `There is no space left for ${path}`,
  hint: "Free space or restore elsewhere; what was written of it is removed",
};
const denied: Saying = { code: "invalid", says: (path) => `${path} cannot be written: permission denied` };

/** What the file system's errors mean for a target. */
const sayings: Readonly<Record<string, Saying>> = {
  EEXIST: { code: "target-exists", says: (path) => `${path} exists already`, hint: "Restore into another directory, or remove it first" },
  ENOENT: { code: "target-missing", says: (path) => `${path} does not exist` },
  ENOTDIR: { code: "target-missing", says: (path) => `${path} does not exist: a part of it is not a directory` },
  EBUSY: { code: "target-in-use", says: (path) => `${path} is in use`, hint: "Unmount it, or stop the machine that has it open" },
  ENOSPC: full,
  EDQUOT: full,
  ELOOP: { code: "invalid", says: (path) => `${path} is a symbolic link`, hint: "Replace it by the file it leads to" },
  EACCES: denied,
  EPERM: denied,
  EROFS: denied,
};

/** Says in our words what the file system said about a target; passes on what it does not know. */
export function targetError(thrown: unknown, path: string): unknown {
  const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
  const saying = sayings[code];
  if (saying === undefined) return thrown;
  return new RestoreError(saying.code, saying.says(path), { cause: thrown, ...(saying.hint === undefined ? {} : { hint: saying.hint }) });
}
