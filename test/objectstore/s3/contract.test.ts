import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe } from "vitest";
import { parseStoreUrl, RetryingObjectStore, type S3Location } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { objectStoreContract } from "../../contract/objectstore.ts";
import { type S3Lab, skipWithout, startS3 } from "../../lab/index.ts";

describe.skipIf(skipWithout("s3"))("on a real S3 server", () => {
  let lab: S3Lab;
  beforeAll(async () => {
    lab = await startS3({ bucket: "plain" });
    await lab.createBucket("locked", { objectLock: true });
    Object.assign(process.env, lab.env);
  });
  afterAll(() => lab.stop());

  const at = (bucket: string, prefix: string): S3Location =>
    parseStoreUrl(`s3://${bucket}${prefix}?endpoint=${lab.endpoint}&region=${lab.region}`) as S3Location;
  const fresh = (): string => `/t/${randomBytes(6).toString("hex")}`;

  for (const bucket of ["plain", "locked"]) {
    objectStoreContract(`s3, ${bucket} bucket`, async () => {
      const location = at(bucket, fresh());
      const [store, other] = [new S3ObjectStore(location), new S3ObjectStore(location)];
      return { store, other, dispose: async () => void (await Promise.all([store.close(), other.close()])) };
    });
  }

  objectStoreContract("s3 with retries, at the root of a bucket", async () => {
    const bucket = `root-${randomBytes(6).toString("hex")}`;
    await lab.createBucket(bucket);
    const store = new RetryingObjectStore(new S3ObjectStore(at(bucket, "")));
    return { store, dispose: () => store.close() };
  });
});
