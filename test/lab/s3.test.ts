import {
  DeleteObjectCommand,
  GetObjectCommand,
  GetObjectRetentionCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { S3Lab } from "./index.ts";
import { skipWithout, startS3 } from "./index.ts";

describe.skipIf(skipWithout("s3"))("S3 lab", () => {
  let lab: S3Lab;
  let client: S3Client;
  beforeAll(async () => {
    lab = await startS3({ bucket: "plain" });
    await lab.createBucket("locked", { objectLock: true });
    client = new S3Client({ region: lab.region, endpoint: lab.endpoint, forcePathStyle: true, credentials: lab, maxAttempts: 1 });
  });
  afterAll(async () => {
    client.destroy();
    await lab.stop();
  });

  it("lets exactly one of many conditional writers win, and keeps what it wrote", async () => {
    const writers = Array.from({ length: 8 }, (_, i) =>
      client.send(new PutObjectCommand({ Bucket: "plain", Key: "once", Body: `writer ${i}`, IfNoneMatch: "*" })),
    );
    const results = await Promise.allSettled(writers);
    const winners = results.flatMap(({ status }, i) => (status === "fulfilled" ? [i] : []));
    expect(winners).toHaveLength(1);
    await expect(client.send(new PutObjectCommand({ Bucket: "plain", Key: "once", Body: "late", IfNoneMatch: "*" }))).rejects.toMatchObject(
      { name: "PreconditionFailed", $metadata: { httpStatusCode: 412 } },
    );
    const { Body } = await client.send(new GetObjectCommand({ Bucket: "plain", Key: "once" }));
    expect(await Body?.transformToString()).toBe(`writer ${winners[0]}`);
  });

  it("refuses to delete a version under Object Lock, or to shorten its retention", async () => {
    const until = new Date(Date.now() + 3_600_000);
    const put = new PutObjectCommand({
      Bucket: "locked",
      Key: "kept",
      Body: "x",
      ObjectLockMode: "COMPLIANCE",
      ObjectLockRetainUntilDate: until,
    });
    const { VersionId } = await client.send(put);
    const version = { Bucket: "locked", Key: "kept", VersionId };
    await expect(client.send(new DeleteObjectCommand(version))).rejects.toThrow(/WORM protected/);
    const shorter = { Mode: "COMPLIANCE", RetainUntilDate: new Date(Date.now() + 60_000) } as const;
    await expect(client.send(new PutObjectRetentionCommand({ ...version, Retention: shorter }))).rejects.toThrow(/WORM protected/);
    const { Retention } = await client.send(new GetObjectRetentionCommand(version));
    expect(Retention?.Mode).toBe("COMPLIANCE");
    expect(Math.abs((Retention?.RetainUntilDate?.getTime() ?? 0) - until.getTime())).toBeLessThan(1000);
  });

  it("refuses a wrong secret", async () => {
    const stranger = new S3Client({
      region: lab.region,
      endpoint: lab.endpoint,
      forcePathStyle: true,
      credentials: { accessKeyId: lab.accessKeyId, secretAccessKey: "wrong" },
    });
    await expect(stranger.send(new GetObjectCommand({ Bucket: "plain", Key: "once" }))).rejects.toMatchObject({
      $metadata: { httpStatusCode: 403 },
    });
    stranger.destroy();
  });
});
