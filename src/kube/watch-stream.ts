import type { IncomingMessage } from "node:http";
import { networkError, refusalError } from "./answer-error.ts";
import { KubeError } from "./errors.ts";
import { splitLines } from "./lines.ts";
import type { KubeObject } from "./object.ts";

/** What happened to an object; a bookmark carries `metadata.resourceVersion` and nothing else. */
export interface WatchEvent<T extends KubeObject> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
  readonly object: T;
}

/** An object in etcd has 1.5 MiB at most; as JSON it may take twice that, and more with the fields that say who manages what. */
const MAX_LINE = 8 * 1024 * 1024;

const eventTypes: ReadonlySet<unknown> = new Set(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]);

export interface WatchLimits {
  /** Completes "cannot …". */
  readonly doing: string;
  /** milliseconds without a word after which the connection counts as dead */
  readonly silenceMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The events of a watch until the server ends it. Throws `KubeError`: `gone` where the server has forgotten the version, `unavailable`
 * where the connection breaks or stays silent, as one does whose other end has vanished; or `signal.reason`.
 */
export async function* watchEvents<T extends KubeObject>(
  answer: IncomingMessage,
  { doing, silenceMs, signal }: WatchLimits,
): AsyncGenerator<WatchEvent<T>, void, undefined> {
  try {
    for await (const line of splitLines(heard(answer, { doing, silenceMs }), MAX_LINE)) yield decode<T>(line, doing);
  } catch (thrown) {
    signal?.throwIfAborted();
    throw networkError(doing, thrown);
  } finally {
    answer.destroy();
  }
}

/** The bytes as they come, or an error when none come for too long. What the consumer takes for its work does not count. */
async function* heard(answer: IncomingMessage, { doing, silenceMs }: WatchLimits): AsyncGenerator<Uint8Array, void, undefined> {
  const silence = new KubeError("unavailable", `cannot ${doing}: the API server said nothing for ${silenceMs} ms`);
  const timer = setTimeout(() => answer.destroy(silence), silenceMs);
  try {
    for await (const chunk of answer as AsyncIterable<Uint8Array>) {
      timer.refresh();
      yield chunk;
      timer.refresh();
    }
  } finally {
    clearTimeout(timer);
  }
}

function decode<T extends KubeObject>(line: string, doing: string): WatchEvent<T> {
  const event = parse(line, doing) as { readonly type?: unknown; readonly object?: unknown };
  if (event.type === "ERROR") {
    const code = typeof event.object === "object" && event.object !== null && "code" in event.object ? Number(event.object.code) : 0;
    throw refusalError(doing, { status: code, body: event.object });
  }
  if (!eventTypes.has(event.type)) throw new KubeError("unavailable", `cannot ${doing}: the API server sent an event of no known type`);
  return event as WatchEvent<T>;
}

function parse(line: string, doing: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new KubeError("unavailable", `cannot ${doing}: the API server sent what is no JSON`, { cause });
  }
}
