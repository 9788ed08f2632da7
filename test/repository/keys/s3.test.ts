import { randomBytes } from "node:crypto";
import { GetObjectCommand, ListObjectVersionsCommand, PutObjectLockConfigurationCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { parseStoreUrl, type S3Location } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { DocumentKind } from "../../../src/repository/format/constants.ts";
import { openDocument } from "../../../src/repository/format/document.ts";
import { repositoryKeys } from "../../../src/repository/format/keys.ts";
import { Repository } from "../../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3 } from "../../lab/index.ts";
import { restricted } from "../../lab/s3-admin.ts";
import { KEY, newRepository, take } from "../harness.ts";
import { readDisk } from "../light-reader.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { withRing } from "./rings.ts";

const NEW = randomBytes(32);
const ALICE = randomBytes(32);

describe.skipIf(skipWithout("s3"))("rotation on S3", () => {
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

  const client = (): S3Client =>
    new S3Client({
      endpoint: lab.endpoint,
      region: lab.region,
      forcePathStyle: true,
      credentials: lab,
    });

  test(
    "in a locked bucket, without the right to delete: the new key reads all, the old one nothing but old versions",
    { timeout: 240_000 },
    async () => {
      const s3 = client();
      const Bucket = lab.bucket;
      const retention = { ObjectLockEnabled: "Enabled", Rule: { DefaultRetention: { Mode: "COMPLIANCE", Days: 1 } } } as const;
      await s3.send(new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration: retention }));
      const prefix = randomBytes(4).toString("hex");
      const connect = (): S3ObjectStore => new S3ObjectStore(parseStoreUrl(lab.url(prefix)) as S3Location);
      const disk = new MemoryDisk("vda", 256 * 1024);
      disk.write(0, randomBytes(100_000));
      const owner = connect();
      const { config, domain } = await newRepository(owner);
      await take(await Repository.open({ store: owner, key: KEY }), [disk]);
      const slot = await withRing({ store: owner, key: KEY }, async (ring) => await ring.add(ALICE, "alice"));
      Object.assign(process.env, await restricted(lab, ["s3:ListBucket", "s3:GetObject", "s3:PutObject"]));
      const limited = connect();
      const report = await withRing({ store: limited, key: KEY }, async (ring) => await ring.rotate({ key: NEW, slot: null }));
      expect(report).toEqual({ domains: 1, removedSlots: [], keptSlots: [slot] });
      const repository = await Repository.open({ store: limited, key: NEW });
      const { points } = await repository.catalog.list();
      expect(points).toHaveLength(1);
      expect((await readDisk(repository, points[0]!)).equals(disk.bytes)).toBe(true);
      for (const key of [KEY, ALICE]) await expect(Repository.open({ store: limited, key })).rejects.toMatchObject({ code: "wrong-key" });
      const at = `keys/${domain}`;
      const { Versions = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: `${prefix}/${at}` }));
      expect(Versions.map(({ IsLatest }) => IsLatest)).toEqual([true, false]);
      const openable: boolean[] = [];
      for (const { Key, VersionId } of Versions) {
        const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key, VersionId }));
        const bytes = (await Body?.transformToByteArray()) ?? new Uint8Array();
        const seal = { kind: DocumentKind.domainKey, key: repositoryKeys(KEY, config.id).document, at, encrypted: true };
        openable.push(opens(() => openDocument(bytes, seal)));
      }
      // What FORMAT.md §12 says of old versions is so: they have to go before the old key is worth nothing.
      expect(openable).toEqual([false, true]);
      for (const store of [owner, limited]) await store.close();
      s3.destroy();
    },
  );
});

function opens(open: () => unknown): boolean {
  try {
    open();
    return true;
  } catch {
    return false;
  }
}
