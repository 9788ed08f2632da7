import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe } from "vitest";
import { type ObjectStore, parseStoreUrl, RetryingObjectStore, type S3Location } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { objectStoreContract } from "../../contract/objectstore.ts";
import { type S3Lab, s3Makes, skipWithout, startS3 } from "../../lab/index.ts";

describe.each([
  ["MinIO", "minio"],
  ["the Versity S3 Gateway", "versitygw"],
] as const)("on a real S3 server, %s", (_name, make) => {
  describe.skipIf(skipWithout(s3Makes[make].tier))("with Object Lock and without", () => {
    let lab: S3Lab;
    beforeAll(async () => {
      lab = await startS3({ make, bucket: "plain" });
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
        // The gateway cuts the connection of a creation that it refuses before it has read all of it: as in the product, retries go between.
        const open = (): ObjectStore =>
          make === "minio" ? new S3ObjectStore(location) : new RetryingObjectStore(new S3ObjectStore(location));
        const [store, other] = [open(), open()];
        const known = make === "versitygw" && bucket === "locked" ? { remembersDeleted: true as const } : {};
        return { store, other, ...known, dispose: async () => void (await Promise.all([store.close(), other.close()])) };
      });
    }

    objectStoreContract("s3 with retries, at the root of a bucket", async () => {
      const bucket = `root-${randomBytes(6).toString("hex")}`;
      await lab.createBucket(bucket);
      const store = new RetryingObjectStore(new S3ObjectStore(at(bucket, "")));
      return { store, dispose: () => store.close() };
    });
  });
});
