import { damaged } from "./errors.ts";

export type JsonObject = { readonly [key: string]: unknown };

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Parses bytes that must be one JSON object. @param what names it in the error */
export function parseObject(bytes: Uint8Array, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(bytes));
  } catch (cause) {
    throw damaged(`${what} is not JSON`, cause);
  }
  return asObject(value, what);
}

export function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw damaged(`${what} is not a JSON object`);
  return value as JsonObject;
}

export function asArray(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw damaged(`${what} is not a list`);
  return value;
}

export function asString(value: unknown, what: string): string {
  if (typeof value !== "string") throw damaged(`${what} is not a string`);
  return value;
}

export function asNullableString(value: unknown, what: string): string | null {
  return value === null ? null : asString(value, what);
}

/** A time as RFC 3339 writes it. */
export function asTime(value: unknown, what: string): string {
  const time = asString(value, what);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/.test(time)) throw damaged(`${what} is not a time`);
  return time;
}

/** A whole number from 0 to `max`. */
export function asCount(value: unknown, what: string, max: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || value > max)
    throw damaged(`${what} is not a whole number up to ${max}`);
  return value;
}

export function asHex(value: unknown, what: string, bytes: number): Buffer {
  if (typeof value !== "string" || value.length !== bytes * 2 || !/^[0-9a-f]*$/.test(value))
    throw damaged(`${what} is not ${bytes} bytes in hex`);
  return Buffer.from(value, "hex");
}

export function asOneOf<T extends string>(value: unknown, what: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw damaged(`${what} is none of ${allowed.join(", ")}`);
  return found;
}

/** A value from outside as a message may quote it. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 64));
  return typeof value === "number" ? String(value) : `a ${value === null ? "null" : typeof value}`;
}

/** Objects and lists within each other that `canonicalJson` follows. */
const MAX_DEPTH = 64;

/** JSON with the keys of every object sorted and no white space: the same value always gives the same text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(sorted(value, 0));
}

function sorted(value: unknown, depth: number): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (depth > MAX_DEPTH) throw damaged(`JSON is nested more than ${MAX_DEPTH} deep`);
  if (Array.isArray(value)) return value.map((one) => sorted(one, depth + 1));
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, one]) => [name, sorted(one, depth + 1)]));
}
