import { StoreError } from "./errors.ts";

const segment = /^[A-Za-z0-9._-]{1,255}$/;
const partialSegment = /^[A-Za-z0-9._-]{0,255}$/;

/** The longest key, in characters (and bytes: keys are ASCII). */
export const maxKeyLength = 512;

/** Whether `name` may stand between two slashes of a key. `.` and `..` may not: they would climb in a directory. */
export function isSegment(name: string): boolean {
  return segment.test(name) && name !== "." && name !== "..";
}

export function isKey(key: string): boolean {
  return key.length <= maxKeyLength && key.split("/").every(isSegment);
}

/** Throws `invalid-key` unless `key` is one the port allows. */
export function checkKey(key: string): void {
  if (!isKey(key)) {
    throw new StoreError("invalid-key", `not a usable object key: ${JSON.stringify(key.slice(0, 100))}`, {
      hint: "keys are segments of letters, digits, '.', '_' and '-', joined by '/', 512 characters at most",
    });
  }
}

/** Throws `invalid-key` unless some key can begin with `prefix`; the last segment may be cut anywhere. */
export function checkPrefix(prefix: string): void {
  const segments = prefix.split("/");
  const last = segments.pop() ?? "";
  if (prefix.length > maxKeyLength || !partialSegment.test(last) || !segments.every(isSegment)) {
    throw new StoreError("invalid-key", `no object key begins with ${JSON.stringify(prefix.slice(0, 100))}`);
  }
}

/** Throws `out-of-range` unless `offset` can be a place in an object. */
export function checkOffset(key: string, offset: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new StoreError("out-of-range", `cannot read ${key} from offset ${offset}`);
  }
}

/** The limit of `get` where the caller names none: 64 MiB. */
export const defaultMaxBytes: number = 64 * 1024 * 1024;

export function tooLarge(key: string, size: number, maxBytes: number): StoreError {
  return new StoreError("too-large", `${key} is ${size} bytes; at most ${maxBytes} were expected`);
}

export function outOfRange(key: string, offset: number, length: number): StoreError {
  return new StoreError("out-of-range", `${key} ends before byte ${offset + length}`);
}

export function notFound(key: string): StoreError {
  return new StoreError("not-found", `no object ${key}`);
}

export function alreadyExists(key: string): StoreError {
  return new StoreError("already-exists", `object ${key} exists already`);
}

export function storeClosed(): StoreError {
  return new StoreError("closed", "the object store is closed");
}
