import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { parseStoreUrl, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { checkRepository, formatKeyFile, prune, Repository } from "../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { restricted } from "../lab/s3-admin.ts";
import { thinstream } from "../support/thinstream.ts";
import { KEY, newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";

const KiB = 1024;
const PREFIX = "cluster";
const { signal } = new AbortController();

describe.skipIf(skipWithout("s3"))("a bucket under a lock, and a thief with more than a writer's credentials", () => {
  let lab: S3Lab;
  let admin: S3Client;
  const contents = new Map<string, Buffer>();
  let before: Date;
  beforeAll(async () => {
    lab = await startS3({ objectLock: true });
    Object.assign(process.env, lab.env);
    admin = clientOf(lab.env);
    const retention = { DefaultRetention: { Mode: "COMPLIANCE", Days: 1 } } as const;
    const ObjectLockConfiguration = { ObjectLockEnabled: "Enabled", Rule: retention } as const;
    await admin.send(new PutObjectLockConfigurationCommand({ Bucket: lab.bucket, ObjectLockConfiguration }));
  }, 120_000);
  afterAll(async () => {
    admin?.destroy();
    await lab?.stop();
  });

  const clientOf = ({ AWS_ACCESS_KEY_ID = "", AWS_SECRET_ACCESS_KEY = "", AWS_SESSION_TOKEN }: NodeJS.ProcessEnv): S3Client =>
    new S3Client({
      region: lab.region,
      endpoint: lab.endpoint,
      forcePathStyle: true,
      credentials: {
        accessKeyId: AWS_ACCESS_KEY_ID,
        secretAccessKey: AWS_SECRET_ACCESS_KEY,
        ...(AWS_SESSION_TOKEN === undefined ? {} : { sessionToken: AWS_SESSION_TOKEN }),
      },
    });

  function storeAt(at: Date | null): S3ObjectStore {
    return new S3ObjectStore(parseStoreUrl(at === null ? lab.url(PREFIX) : `${lab.url(PREFIX)}&at=${at.toISOString()}`) as S3Location);
  }

  test("backups and prunes go on under it", async () => {
    const store = storeAt(null);
    const repository = await newRepository(store);
    const disk = new MemoryDisk("vda", 2048 * KiB);
    for (let i = 0; i < 4; i++) {
      disk.write(i * 300 * KiB, randomBytes(400 * KiB));
      const point = await take(repository, [disk], { captures: { "domain.xml": Buffer.from(`point ${i}`) } });
      disk.checkpoint();
      contents.set(point.id, Buffer.from(disk.bytes));
    }
    expect(await prune(repository, { signal })).toMatchObject({ unclear: [], removed: { packs: 0 } });
    // Versions are dated to the second.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    before = new Date(new Date((await fetch(lab.endpoint)).headers.get("date") ?? "").getTime() - 500);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await store.close();
  }, 60_000);

  test("the thief overwrites and deletes what there is, and cannot take a version away", async () => {
    const all = ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"] as const;
    const env = await restricted(lab, [...all, "s3:DeleteObject", "s3:DeleteObjectVersion"]);
    const thief = clientOf(env);
    const { Versions: versions = [] } = await thief.send(new ListObjectVersionsCommand({ Bucket: lab.bucket }));
    expect(versions.length).toBeGreaterThan(10);
    for (const [i, { Key, VersionId }] of versions.entries()) {
      await expect(thief.send(new DeleteObjectCommand({ Bucket: lab.bucket, Key, VersionId }))).rejects.toThrow(/WORM protected|denied/i);
      if (i % 3 !== 0) await thief.send(new PutObjectCommand({ Bucket: lab.bucket, Key, Body: randomBytes(300) }));
      if (i % 3 !== 1) await thief.send(new DeleteObjectCommand({ Bucket: lab.bucket, Key }));
    }
    for (const id of contents.keys()) {
      const [vm = "", seq = ""] = id.split("-");
      const Key = `${PREFIX}/forgotten/${vm}/${seq.padStart(10, "0")}`;
      await thief.send(new PutObjectCommand({ Bucket: lab.bucket, Key, Body: "" }));
    }
    thief.destroy();
    const present = storeAt(null);
    const found = await Repository.open({ store: present, key: KEY })
      .then(async ({ catalog }) => (await catalog.list()).points.length)
      .catch(() => 0);
    expect(found).toBe(0);
    await present.close();
  }, 60_000);

  test("every point restores bit for bit from the versions of before, with no more than the right to read", async () => {
    const env = await restricted(lab, ["s3:ListBucketVersions", "s3:GetObject", "s3:GetObjectVersion"]);
    const saved = { ...process.env };
    Object.assign(process.env, env);
    try {
      const store = storeAt(before);
      const repository = await Repository.open({ store, key: KEY });
      const { points, unreadable } = await repository.catalog.list();
      expect([points.map(({ id }) => id), unreadable]).toEqual([[...contents.keys()], []]);
      for (const point of points) expect((await readDisk(repository, point)).equals(contents.get(point.id) as Buffer)).toBe(true);
      expect((await checkRepository(repository, { signal })).findings).toEqual([]);
      await expect(store.put("x", Buffer.alloc(1))).rejects.toMatchObject({
        code: "access-denied",
        hint: expect.stringMatching(/at=/) as string,
      });
      await expect(store.delete("config")).rejects.toMatchObject({ code: "access-denied" });
      await store.close();
    } finally {
      process.env = saved;
    }
  }, 60_000);

  test("the command line restores from then as from any repository", async () => {
    const dir = mkdtempSync(join(tempDir("lock"), "restored-"));
    const keyFile = join(dir, "key");
    writeFileSync(keyFile, formatKeyFile(KEY), { mode: 0o600 });
    const flags = ["--repo", `${lab.url(PREFIX)}&at=${before.toISOString()}`, "--key-file", keyFile];
    const restored = await thinstream(["restore", ...flags, "--point", "latest", "--vm", "vm", "--output", join(dir, "out")]);
    expect(restored).toMatchObject({ code: 0 });
    const newest = [...contents.values()].at(-1) as Buffer;
    expect(readFileSync(join(dir, "out", "vda.raw")).equals(newest)).toBe(true);
    const refused = await thinstream(["forget", ...flags, "--point", [...contents.keys()][0] ?? ""]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/is only read/) as string });
  }, 60_000);
});
