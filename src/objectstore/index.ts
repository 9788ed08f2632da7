export { StoreError, type StoreErrorCode } from "./errors.ts";
export type { CallOptions, GetOptions, ListOptions, ObjectStat, ObjectStore } from "./objectstore.ts";
export { probePrefix, probeStore, requireConditionalWrites } from "./probe.ts";
export { formatS3Url, parseStoreUrl, type FsLocation, type S3Location, type StoreLocation } from "./url.ts";
export { CountingObjectStore, type RequestCounts, type StoreOperation } from "./wrap/counting.ts";
export { FaultyObjectStore, type Fault, type FaultRule, type InjectedFault } from "./wrap/faults.ts";
export { LimitedObjectStore, type LimitOptions } from "./wrap/limit.ts";
export { RetryingObjectStore, type RetryEvent, type RetryOptions } from "./wrap/retry.ts";
