/* oxlint-disable vitest/expect-expect -- expectCode asserts */
import { inspect } from "node:util";
import { GetObjectRetentionCommand, HeadObjectCommand, PutObjectLockConfigurationCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseStoreUrl, type S3Location } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { expectCode, pattern } from "../../contract/objectstore.ts";
import { type S3Lab, skipWithout, startS3 } from "../../lab/index.ts";
import { type DamagingProxy, startDamagingProxy } from "./damaging-proxy.ts";

describe.skipIf(skipWithout("s3"))("S3 store on a real server", () => {
  let lab: S3Lab;
  let client: S3Client;
  beforeAll(async () => {
    lab = await startS3({ bucket: "plain" });
    await lab.createBucket("locked", { objectLock: true });
    client = new S3Client({ endpoint: lab.endpoint, region: lab.region, forcePathStyle: true, credentials: lab });
  });
  beforeEach(() => void Object.assign(process.env, lab.env));
  afterAll(async () => {
    client.destroy();
    await lab.stop();
  });

  const open = (bucket = "plain", endpoint = lab.endpoint): S3ObjectStore =>
    new S3ObjectStore(parseStoreUrl(`s3://${bucket}/x?endpoint=${endpoint}&region=${lab.region}`) as S3Location);

  it("has the store keep a checksum of the whole object, in the first put and later ones", async () => {
    const store = open();
    for (const key of ["first", "second"]) {
      await store.put(key, Buffer.from("123456789"));
      const head = await client.send(new HeadObjectCommand({ Bucket: "plain", Key: `x/${key}`, ChecksumMode: "ENABLED" }));
      // CBF43926 is the published check value of CRC-32 for these nine bytes.
      expect(head).toMatchObject({ ChecksumCRC32: Buffer.from("cbf43926", "hex").toString("base64"), ChecksumType: "FULL_OBJECT" });
    }
    await store.close();
  });

  it("names a missing bucket", async () => {
    const store = open("nowhere");
    await expectCode(store.get("k"), "bucket-missing");
    await expectCode(store.put("k", new Uint8Array(1)), "bucket-missing");
    await expectCode(store.putIfAbsent("k", new Uint8Array(1)), "bucket-missing");
    await expectCode(store.list("")[Symbol.asyncIterator]().next(), "bucket-missing");
    await store.close();
  });

  it("tells wrong credentials, and repeats none of them", async () => {
    const secret = "kept-to-myself-0123456789";
    process.env["AWS_SECRET_ACCESS_KEY"] = secret;
    const wrongSecret = open();
    const errors = [
      await expectCode(wrongSecret.put("k", pattern(100, 1)), "access-denied"),
      await expectCode(wrongSecret.get("k"), "access-denied"),
    ];
    process.env["AWS_ACCESS_KEY_ID"] = "AKUNKNOWN";
    const wrongKey = open();
    errors.push(await expectCode(wrongKey.put("k", pattern(100, 1)), "access-denied"));
    for (const error of errors) {
      expect(error.hint).toMatch(/AWS_(SECRET_)?ACCESS_KEY/);
      const everything = inspect(error, { depth: 20, showHidden: true });
      for (const forbidden of [secret, lab.secretAccessKey, lab.accessKeyId, "AKUNKNOWN", "Signature=", "StringToSign", "Credential="]) {
        expect(everything).not.toContain(forbidden);
      }
    }
    await Promise.all([wrongSecret.close(), wrongKey.close()]);
  });

  it("works under Object Lock with a default retention", async () => {
    const Rule = { DefaultRetention: { Mode: "GOVERNANCE", Days: 1 } } as const;
    await client.send(
      new PutObjectLockConfigurationCommand({ Bucket: "locked", ObjectLockConfiguration: { ObjectLockEnabled: "Enabled", Rule } }),
    );
    const store = open("locked");
    await store.put("pack", pattern(100_000, 1));
    await store.putIfAbsent("point", Buffer.from("one"));
    const kept = await client.send(new GetObjectRetentionCommand({ Bucket: "locked", Key: "x/pack" }));
    expect(kept.Retention?.Mode).toBe("GOVERNANCE");
    await expectCode(store.putIfAbsent("point", Buffer.from("two")), "already-exists");
    await store.delete("point");
    await expectCode(store.get("point"), "not-found");
    await store.putIfAbsent("point", Buffer.from("three"));
    expect(Buffer.from(await store.get("point")).toString()).toBe("three");
    await store.close();
  });

  describe("with a wire that damages bodies", () => {
    let proxy: DamagingProxy;
    beforeAll(async () => {
      proxy = await startDamagingProxy(lab.endpoint);
    });
    afterAll(() => proxy.stop());

    it("has the server refuse what arrives damaged, signed or not", async () => {
      const store = open("plain", proxy.endpoint);
      proxy.damage = "request";
      await expectCode(store.put("bad", pattern(5_000_000, 1)), "checksum-mismatch");
      proxy.damage = "nothing";
      await store.put("good", pattern(5_000_000, 1));
      proxy.damage = "request";
      expect((await expectCode(store.put("bad", pattern(5_000_000, 1)), "checksum-mismatch")).temporary).toBe(true);
      await expectCode(store.putIfAbsent("bad", pattern(5_000_000, 1)), "checksum-mismatch");
      proxy.damage = "nothing";
      await expectCode(store.get("bad"), "not-found");
      await store.close();
    });

    it("notices a whole object that comes back damaged", async () => {
      const store = open("plain", proxy.endpoint);
      proxy.damage = "nothing";
      await store.put("whole", pattern(300_000, 2));
      proxy.damage = "response";
      await expectCode(store.get("whole"), "checksum-mismatch");
      proxy.damage = "nothing";
      expect(Buffer.compare(await store.get("whole"), pattern(300_000, 2))).toBe(0);
      await store.close();
    });
  });
});
