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

/** A text without the credentials of the URLs in it: user and password, and query parameters with a secret's name. */
export function scrubText(text: string): string {
  return text
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
