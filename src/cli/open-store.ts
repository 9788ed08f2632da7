import { FsObjectStore, fsTrials } from "../objectstore/fs/index.ts";
import {
  CountingObjectStore,
  LimitedObjectStore,
  type ObjectStore,
  parseStoreUrl,
  type RequestCounts,
  RetryingObjectStore,
  StoreError,
  type StoreTrials,
} from "../objectstore/index.ts";
import { S3ObjectStore, s3Trials } from "../objectstore/s3/index.ts";
import type { Logger } from "../lib/logger.ts";
import { UsageError } from "./usage-error.ts";

/** Requests to one store at a time. */
const CONCURRENCY = 48;

export interface StoreLimits {
  /** Whose S3 credentials, of the SDK's shared configuration files; absent: the SDK's usual chain. */
  readonly profile?: string;
  /** bytes a second; 0 or absent: as fast as it goes */
  readonly uploadRate?: number;
  /** Given the way to learn what was asked of the store. */
  readonly onCounting?: (counts: () => RequestCounts) => void;
}

/** The store a URL names, with retries and limits where there is a network in between. */
export function openStore(url: string, log: Logger, { profile, uploadRate = 0, onCounting }: StoreLimits = {}): ObjectStore {
  const location = parse(url);
  const limits = { concurrency: CONCURRENCY, ...(uploadRate > 0 ? { uploadRate } : {}) };
  if (location.kind === "fs") {
    const store = new FsObjectStore(location.path);
    return uploadRate > 0 ? new LimitedObjectStore(store, limits) : store;
  }
  const onRetry = ({ doing, attempt, delay, error }: { doing: string; attempt: number; delay: number; error: Error }): void =>
    log.warn({ doing, attempt, delay: Math.round(delay), reason: error.message }, "Retrying a request to the store");
  const counting = new CountingObjectStore(new S3ObjectStore(location, profile === undefined ? {} : { profile }));
  onCounting?.(() => counting.counts);
  return new LimitedObjectStore(new RetryingObjectStore(counting, { onRetry }), limits);
}

/** What a store of that kind is asked beside what every store is. */
export function trialsOf(url: string): StoreTrials {
  const location = parse(url);
  return location.kind === "fs" ? fsTrials(location.path) : s3Trials(location);
}

function parse(url: string): ReturnType<typeof parseStoreUrl> {
  try {
    return parseStoreUrl(url);
  } catch (cause) {
    if (!(cause instanceof StoreError)) throw cause;
    throw new UsageError(cause.message, { cause, ...(cause.hint === undefined ? {} : { hint: cause.hint }) });
  }
}
