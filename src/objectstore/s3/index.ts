export type { S3Options } from "./client.ts";
export { S3ObjectStore } from "./s3-object-store.ts";
export { s3Trials } from "./trials.ts";
