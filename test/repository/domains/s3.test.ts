import { randomBytes } from "node:crypto";
import {
  GetObjectCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { parseStoreUrl, type S3Location } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { DocumentKind } from "../../../src/repository/format/constants.ts";
import { openDocument } from "../../../src/repository/format/document.ts";
import { repositoryKeys } from "../../../src/repository/format/keys.ts";
import { Domains, lockDomains, Repository } from "../../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3 } from "../../lab/index.ts";
import { restricted } from "../../lab/s3-admin.ts";
import { KEY, newRepository, take } from "../harness.ts";
import { withRing } from "../keys/rings.ts";
import { readDisk } from "../light-reader.ts";
import { MemoryDisk } from "../memory-disk.ts";

describe.skipIf(skipWithout("s3"))("the destruction of a domain on S3", () => {
  let lab: S3Lab;
  const env = { ...process.env };
  beforeAll(async () => {
    lab = await startS3({ objectLock: true });
    Object.assign(process.env, lab.env);
  }, 120_000);
  afterAll(async () => {
    process.env = env;
    await lab?.stop();
  });

  test(
    "in a locked bucket: a writer announces it at most; who may delete does it, and the old version of the key is there yet",
    { timeout: 240_000 },
    async () => {
      const s3 = new S3Client({ endpoint: lab.endpoint, region: lab.region, forcePathStyle: true, credentials: lab });
      const Bucket = lab.bucket;
      const retention = { ObjectLockEnabled: "Enabled", Rule: { DefaultRetention: { Mode: "COMPLIANCE", Days: 1 } } } as const;
      await s3.send(new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration: retention }));
      const prefix = randomBytes(4).toString("hex");
      const connect = (): S3ObjectStore => new S3ObjectStore(parseStoreUrl(lab.url(prefix)) as S3Location);
      const disk = new MemoryDisk("vda", 256 * 1024);
      disk.write(0, randomBytes(100_000));
      const owner = connect();
      const { config } = await newRepository(owner);
      const blue = await Repository.open({ store: owner, key: KEY, domain: "blue" });
      const point = await take(blue, [disk]);
      const destroy = async (store: S3ObjectStore): Promise<unknown> =>
        await withRing({ store, key: KEY }, async (ring) => await ring.destroyDomain("blue"));

      Object.assign(process.env, await restricted(lab, ["s3:ListBucket", "s3:GetObject", "s3:PutObject"]));
      const limited = connect();
      await expect(destroy(limited)).rejects.toMatchObject({ code: "access-denied" });
      const whole = await Domains.open({ store: limited, key: KEY });
      expect(whole.announced).toMatchObject([{ name: "blue" }]);
      expect((await readDisk(await whole.holding(point.id), point)).equals(disk.bytes)).toBe(true);
      await expect(blue.requireSafeWrites(new AbortController().signal)).rejects.toMatchObject({ code: "domain-destroyed" });

      await destroy(owner);
      const domains = await Domains.open({ store: owner, key: KEY });
      expect(domains.destroyed).toMatchObject([{ name: "blue" }]);
      await expect(domains.holding(point.id)).rejects.toMatchObject({ code: "domain-destroyed" });
      // What is said of old versions is so: they have to go before nobody has the key.
      const at = `keys/${blue.domain}`;
      const { Versions = [], DeleteMarkers = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: `${prefix}/${at}` }));
      expect([Versions.length, DeleteMarkers.map(({ IsLatest }) => IsLatest)]).toEqual([1, [true]]);
      const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key: `${prefix}/${at}`, VersionId: Versions[0]?.VersionId }));
      const seal = { kind: DocumentKind.domainKey, key: repositoryKeys(KEY, config.id).document, at, encrypted: true };
      const old = openDocument((await Body?.transformToByteArray()) ?? new Uint8Array(), seal);
      expect(old.equals(blue.keys.domainKey)).toBe(true);
      for (const store of [owner, limited]) await store.close();
      s3.destroy();
    },
  );

  /** A repository with a point in each of two domains. */
  async function twoDomains(): Promise<{ prefix: string; store: S3ObjectStore; blue: string }> {
    delete process.env["AWS_SESSION_TOKEN"];
    Object.assign(process.env, lab.env);
    const prefix = randomBytes(4).toString("hex");
    const store = new S3ObjectStore(parseStoreUrl(lab.url(prefix)) as S3Location);
    await newRepository(store);
    for (const domain of ["default", "blue"]) {
      const disk = new MemoryDisk("vda", 256 * 1024);
      disk.write(0, randomBytes(100_000));
      await take(await Repository.open({ store, key: KEY, domain }), [disk]);
    }
    return { prefix, store, blue: (await Domains.open({ store, key: KEY })).named("blue").domain };
  }

  test.each(["overwritten", "deleted"] as const)(
    "a domain whose key was %s stays locked, and its key",
    { timeout: 240_000 },
    async (how) => {
      const { prefix, store, blue } = await twoDomains();
      const { signal } = new AbortController();
      const at = `keys/${blue}`;
      if (how === "deleted") await store.delete(at);
      else await store.put(at, randomBytes(100));
      const report = await lockDomains(await Domains.open({ store, key: KEY }), { periodMs: 3 * 86_400_000, budget: 1000, signal });
      expect(report.unclear.map(({ id }) => id)).toContain(at);
      expect(how === "deleted" ? report.hidden : report.overwritten).toEqual({ objects: 1, keys: [at] });
      expect(report).toMatchObject({ left: 0, unlocked: 0, missing: { objects: 0 } });
      const s3 = new S3Client({ endpoint: lab.endpoint, region: lab.region, forcePathStyle: true, credentials: lab });
      const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket: lab.bucket, Prefix: `${prefix}/` }));
      const needed = Versions.filter(({ Key = "" }) => /\/(keys|packs|points)\//.test(Key));
      expect(needed.length).toBeGreaterThan(7);
      for (const { Key, VersionId } of needed) {
        const { Retention } = await s3.send(new GetObjectRetentionCommand({ Bucket: lab.bucket, Key, VersionId }));
        expect(Retention?.RetainUntilDate?.getTime(), Key).toBeGreaterThan(Date.now() + 2.5 * 86_400_000);
      }
      await store.close();
      s3.destroy();
    },
  );

  test("locks are extended in every domain, whichever it is that needs an object", { timeout: 240_000 }, async () => {
    const { prefix, store } = await twoDomains();
    const domains = await Domains.open({ store, key: KEY });
    const [held, released] = (await domains.list()).points.map(({ point }) => point.id) as [string, string];
    for (const id of [held, released]) await (await domains.holding(id)).catalog.hold(id);
    await (await domains.holding(released)).catalog.release(released);
    const { signal } = new AbortController();
    const none = { objects: 0, keys: [] };
    const report = await lockDomains(domains, { periodMs: 3 * 86_400_000, budget: 1000, signal });
    expect(report).toMatchObject({ points: 2, unlocked: 0, left: 0, unclear: [], missing: none, hidden: none, overwritten: none });
    const s3 = new S3Client({ endpoint: lab.endpoint, region: lab.region, forcePathStyle: true, credentials: lab });
    let looked = 0;
    for (const part of ["packs/", "points/", "keys/", "domains/", "holds/"])
      for await (const { key } of store.list(part)) {
        const { Retention } = await s3.send(new GetObjectRetentionCommand({ Bucket: lab.bucket, Key: `${prefix}/${key}` }));
        expect(Retention?.RetainUntilDate?.getTime(), key).toBeGreaterThan(Date.now() + 2.5 * 86_400_000);
        looked += 1;
      }
    expect(looked).toBeGreaterThan(9);
    await store.close();
    s3.destroy();
  });
});
