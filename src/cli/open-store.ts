import { FsObjectStore } from "../objectstore/fs/index.ts";
import { LimitedObjectStore, type ObjectStore, parseStoreUrl, RetryingObjectStore, StoreError } from "../objectstore/index.ts";
import { S3ObjectStore } from "../objectstore/s3/index.ts";
import type { Logger } from "../lib/logger.ts";
import { UsageError } from "./usage-error.ts";

/** Requests to one store at a time. */
const CONCURRENCY = 48;

/** The store a URL names, with retries and limits where there is a network in between. */
export function openStore(url: string, log: Logger): ObjectStore {
  const location = parse(url);
  if (location.kind === "fs") return new FsObjectStore(location.path);
  const onRetry = ({ doing, attempt, delay, error }: { doing: string; attempt: number; delay: number; error: Error }): void =>
    log.warn({ doing, attempt, delay: Math.round(delay), reason: error.message }, "Retrying a request to the store");
  return new LimitedObjectStore(new RetryingObjectStore(new S3ObjectStore(location), { onRetry }), { concurrency: CONCURRENCY });
}

function parse(url: string): ReturnType<typeof parseStoreUrl> {
  try {
    return parseStoreUrl(url);
  } catch (cause) {
    if (!(cause instanceof StoreError)) throw cause;
    throw new UsageError(cause.message, { cause, ...(cause.hint === undefined ? {} : { hint: cause.hint }) });
  }
}
