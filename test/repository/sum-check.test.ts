import { randomBytes } from "node:crypto";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { type ObjectStore, parseStoreUrl, RetryingObjectStore, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { checkListed, checkRepository, type CheckReport, type PointRecord, Repository } from "../../src/repository/index.ts";
import { type S3Make, s3Makes } from "../lab/s3-makes.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { type FaultProxy, startFaultProxy } from "../objectstore/s3/fault-proxy.ts";
import { KEY, newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { PruneLab } from "./prune/lab.ts";

const GRANULE = 65_536;
const { signal } = new AbortController();

interface Made {
  readonly repository: Repository;
  readonly disk: MemoryDisk;
  readonly points: readonly PointRecord[];
  /** keys of the packs, those of the first point first */
  readonly packs: readonly string[];
}

async function make(store: ObjectStore): Promise<Made> {
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", 64 * GRANULE);
  disk.write(0, randomBytes(40 * GRANULE));
  const points: PointRecord[] = [];
  for (let i = 0; i < 3; i++) {
    points.push(await take(repository, [disk]));
    disk.checkpoint();
    disk.write(i * GRANULE, randomBytes(GRANULE));
  }
  const packs: string[] = [];
  for await (const { key } of store.list(`packs/${repository.domain}/`)) packs.push(key);
  const order = points.map(({ run }) => run);
  return { repository, disk, points, packs: packs.toSorted((a, b) => order.indexOf(a.slice(-32, -8)) - order.indexOf(b.slice(-32, -8))) };
}

async function compared(repository: Repository, sample = 100): Promise<CheckReport> {
  return await checkListed(repository, { signal, sample, compare: true });
}

describe.each(["minio", "versitygw"] as const)("checksums that %s keeps", (name: S3Make) => {
  describe.skipIf(skipWithout(s3Makes[name].tier))("are compared with what was sent", () => {
    let lab: S3Lab;
    let dir: string;
    let proxy: FaultProxy;
    let admin: S3Client;
    beforeAll(async () => {
      dir = join(tempDir("sums"), "drive");
      lab = await startS3({ make: name, dir });
      Object.assign(process.env, lab.env);
      proxy = await startFaultProxy(lab.endpoint, { seed: 1, silenceMs: 1000 });
      const credentials = { accessKeyId: lab.accessKeyId, secretAccessKey: lab.secretAccessKey };
      admin = new S3Client({ region: lab.region, endpoint: lab.endpoint, forcePathStyle: true, credentials });
    }, 120_000);
    afterAll(async () => {
      admin?.destroy();
      await proxy?.stop();
      await lab?.stop();
    });

    function connect(): { readonly store: ObjectStore; readonly prefix: string } {
      const prefix = randomBytes(4).toString("hex");
      const url = lab.url(prefix).replace(lab.endpoint, proxy.endpoint);
      return { prefix, store: new RetryingObjectStore(new S3ObjectStore(parseStoreUrl(url) as S3Location)) };
    }

    test("a request for each pack and run, and nothing is read", async () => {
      const { repository, packs } = await make(connect().store);
      const before = { ...proxy.requests };
      const report = await compared(repository);
      expect(report).toMatchObject({ findings: [], bytesRead: 0, sums: { compared: packs.length, unrecorded: 0, unkept: 0 } });
      expect((proxy.requests["HEAD"] ?? 0) - (before["HEAD"] ?? 0)).toBe(packs.length);
      const half = await compared(repository, 50);
      expect(half).toMatchObject({ sums: { compared: packs.length / 2 }, sample: { packs: packs.length / 2 } });
    }, 120_000);

    test("what was replaced by other bytes of the same length, or by another object, is named, and the next backup heals it", async () => {
      const { repository, packs, disk, points } = await make(connect().store);
      const { store } = repository;
      const [first = "", , third = ""] = packs;
      const good = await store.get(first);
      const flipped = Buffer.from(good);
      flipped[5 * GRANULE] = (flipped[5 * GRANULE] ?? 0) ^ 1;
      for (const other of [flipped, Buffer.from(await store.get(third))]) {
        await store.put(first, other);
        const { findings, noted } = await compared(repository);
        const reason =
          other.length === good.length ? /its CRC-32 is [0-9a-f]{8}, and that of what was stored/ : /cut short|bytes, and \d+ were stored/;
        expect(findings).toMatchObject([{ what: first, reason: expect.stringMatching(reason) as string }]);
        expect(findings[0]?.points.toSorted()).toEqual(points.map(({ id }) => id).toSorted());
        expect(noted).toBe(true);
      }
      const healed = await take(repository, [disk]);
      disk.checkpoint();
      expect((await readDisk(repository, healed)).equals(disk.bytes)).toBe(true);
      expect((await compared(repository)).findings.flatMap((finding) => finding.points)).not.toContain(healed.id);
    }, 120_000);

    test("bytes that rot on the server's disk behind its back are not in its word: reading finds them", async () => {
      const made = connect();
      const { repository, packs } = await make(made.store);
      const [first = ""] = packs;
      const [file] = globSync(`**/${first.slice(-32)}{,/*/part.1}`, { cwd: join(dir, lab.bucket) }).filter(
        (path) => !isDirectory(join(dir, lab.bucket, path)),
      );
      const path = join(dir, lab.bucket, file ?? "");
      const bytes = readFileSync(path);
      bytes[GRANULE] = (bytes[GRANULE] ?? 0) ^ 1;
      writeFileSync(path, bytes);
      expect((await compared(repository)).findings).toEqual([]);
      // One server gives out what is there, the other sees by its own checksum that it is not right, and cuts the connection.
      const { findings } = await checkRepository(repository, { signal });
      expect(findings).toMatchObject([
        { what: first, reason: expect.stringMatching(name === "minio" ? /does not give it out/ : /1 of its \d+ frames/) as string },
      ]);
    }, 120_000);

    test("packs of which the store keeps no checksum, and such that nobody wrote down, are counted and nothing is said of them", async () => {
      const made = connect();
      const { repository, packs, points } = await make(made.store);
      const [first = ""] = packs;
      const place = { Bucket: lab.bucket, Key: `${made.prefix}/${first}` };
      await admin.send(new PutObjectCommand({ ...place, Body: await made.store.get(first), ChecksumAlgorithm: "SHA256" }));
      await made.store.delete(`sums/${repository.domain}/${points[2]?.run}`);
      await made.store.put(`sums/${repository.domain}/${points[1]?.run}`, randomBytes(90));
      const ofRuns = packs.filter((pack) => pack.includes(points[1]?.run ?? "-") || pack.includes(points[2]?.run ?? "-"));
      const sums = { unkept: 1, unrecorded: ofRuns.length, compared: packs.length - ofRuns.length - 1 };
      expect(await compared(repository)).toMatchObject({ findings: [], sums });
    }, 120_000);
  });
});

function isDirectory(path: string): boolean {
  return globSync("*", { cwd: path }).length > 0;
}

test("a store that keeps none is not asked for all of them, and says so", async () => {
  const store = new FsObjectStore(tempDir("no-sums"));
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", 8 * GRANULE);
  for (let i = 0; i < 20; i++) {
    disk.write(0, randomBytes(GRANULE));
    await take(repository, [disk]);
    disk.checkpoint();
  }
  const report = await compared(repository);
  expect(report.sums).toMatchObject({ compared: 0, unrecorded: 0, unkept: report.packs });
  await store.close();
}, 120_000);

test("what was written down of a run goes with the last of its packs", async () => {
  const lab = await PruneLab.start();
  const first = await lab.backup();
  await lab.backup();
  lab.disk.trackChanges = false;
  lab.disk.write(0, randomBytes(lab.disk.size));
  const last = await lab.backup();
  expect(await lab.store.keys("sums/")).toHaveLength(3);
  for (const { id } of (await lab.repository.catalog.list()).points) if (id !== last.id) await lab.repository.catalog.forget(id);
  for (const hours of [31, 31, 31, 31]) await lab.prune(hours);
  const left = (await lab.store.keys("sums/")).map((key) => key.slice(-24));
  const runs = new Set((await lab.packs()).map((pack) => pack.slice(0, 24)));
  expect(new Set(left)).toEqual(runs);
  expect(left).not.toContain(first.run);
  expect(await lab.restorable()).toEqual([last.id]);
  expect(await Repository.open({ store: lab.store, key: KEY })).toBeDefined();
}, 120_000);
