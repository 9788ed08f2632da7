import { errorText } from "../../lib/errors.ts";
import { StoreError, type StoreErrorCode } from "../errors.ts";

const codes: Readonly<Record<string, StoreErrorCode>> = {
  ENOENT: "not-found",
  EISDIR: "not-found",
  EEXIST: "already-exists",
  EACCES: "access-denied",
  EPERM: "access-denied",
  EROFS: "access-denied",
  ENOSPC: "no-space",
  EDQUOT: "no-space",
  ENAMETOOLONG: "invalid-key",
  EMFILE: "unavailable",
  ENFILE: "unavailable",
  EAGAIN: "unavailable",
  EBUSY: "unavailable",
  ESTALE: "unavailable",
  ETIMEDOUT: "timeout",
};

const hints: Partial<Record<StoreErrorCode, string>> = {
  "access-denied":
    "give the user that runs this read and write permission on the repository directory, on a file system that is mounted writable",
  "no-space": "free space on the file system of the repository, or raise its quota",
};

/** The errno name of what `node:fs` threw, e.g. `ENOENT`; empty when it is something else. */
export function errno(thrown: unknown): string {
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : "";
}

/** What `node:fs` threw, in the words of the port. `doing` is e.g. `write points/a`, `root` the store's directory. */
export function fsError(thrown: unknown, doing: string, root: string): StoreError {
  if (thrown instanceof StoreError) return thrown;
  const name = errno(thrown);
  // Where a key's parent is itself an object there can be no such object; creating one is refused for what it is.
  const code = name === "ENOTDIR" ? (doing.startsWith("write ") ? "invalid-key" : "not-found") : (codes[name] ?? "failed");
  const hint = hints[code];
  const full = code === "no-space" ? `the file system of ${root} is full: ` : "";
  const message = `${full}cannot ${doing}: ${errorText(thrown)}`;
  return new StoreError(code, message, hint === undefined ? { cause: thrown } : { cause: thrown, hint });
}
