import { ThinstreamError } from "./errors.ts";

const secretName = /pass(?:word|phrase|wd)|secret|token|authorization|credential|cookie|signature|private.?key|api.?key/i;
const hidden = "[hidden]";
const maxDepth = 6;
const maxEntries = 100;

/**
 * A copy of a value that is fit for a log: fields with a secret's name, credentials inside URLs and bytes are hidden, errors are cut
 * down to name, code, message, hint, stack and cause (an SDK's errors carry whole requests), and depth and width are bounded.
 */
export function scrub(value: unknown): unknown {
  return scrubAt(value, 0);
}

/** Secrets by their values, the latest ones; sessions' credentials are replaced every few minutes. */
const values = new Set<string>();
const mostValues = 32;
const shortestValue = 8;

/** From here on hides this value wherever it turns up in a text: what a server answers may quote what it was sent. */
export function hideValue(secret: string | undefined): void {
  if (secret === undefined || secret.length < shortestValue) return;
  values.delete(secret);
  values.add(secret);
  for (const oldest of values) {
    if (values.size <= mostValues) break;
    values.delete(oldest);
  }
}

/** A text without the credentials of the URLs in it: user and password, and query parameters with a secret's name; and without the values of secrets. */
export function scrubText(text: string): string {
  let left = text;
  for (const value of values) left = left.replaceAll(value, hidden);
  return left
    .replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/?#@]*@/gi, `$1${hidden}@`)
    .replace(/([?&])([\w.-]+)=[^\s&#"']*/g, (all, mark: string, name: string) =>
      secretName.test(name) ? `${mark}${name}=${hidden}` : all,
    );
}

function scrubAt(value: unknown, depth: number): unknown {
  if (typeof value === "string") return scrubText(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth >= maxDepth) return "[deeper]";
  if (value instanceof Error) return scrubError(value, depth);
  if (Array.isArray(value)) return value.slice(0, maxEntries).map((item) => scrubAt(item, depth + 1));
  const entries = Object.entries(value).slice(0, maxEntries);
  return Object.fromEntries(entries.map(([name, item]) => [name, secretName.test(name) ? hidden : scrubAt(item, depth + 1)]));
}

function scrubError(error: Error, depth: number): Record<string, unknown> {
  const code: unknown = "code" in error ? error.code : undefined;
  return {
    name: error.name,
    ...(typeof code === "string" || typeof code === "number" ? { code } : {}),
    message: scrubText(error.message),
    ...(error instanceof ThinstreamError && error.hint !== undefined ? { hint: scrubText(error.hint) } : {}),
    ...(error.stack === undefined ? {} : { stack: scrubText(error.stack) }),
    ...(error.cause === undefined ? {} : { cause: scrubAt(error.cause, depth + 1) }),
  };
}
