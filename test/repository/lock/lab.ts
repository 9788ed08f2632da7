import { randomBytes } from "node:crypto";
import {
  DeleteObjectCommand,
  GetObjectRetentionCommand,
  ListObjectVersionsCommand,
  type ObjectVersion,
  PutObjectLockConfigurationCommand,
  S3Client,
} from "@aws-sdk/client-s3";

import { type ObjectStore, parseStoreUrl, type S3Location } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { extendLocks, type LockOptions, type LockReport, type PointRecord, Repository } from "../../../src/repository/index.ts";
import { type S3Lab, startS3 } from "../../lab/index.ts";
import type { S3Make } from "../../lab/s3-makes.ts";
import { type FaultProxy, startFaultProxy } from "../../objectstore/s3/fault-proxy.ts";
import { KEY, newRepository, take } from "../harness.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { aged, inHours } from "../prune/aged.ts";

const KiB = 1024;
export const HOUR: number = 3_600_000;
const { signal } = new AbortController();

/** A server with Object Lock, and a proxy before it that counts. */
export class LockLab {
  readonly s3: S3Lab;
  readonly admin: S3Client;
  readonly proxy: FaultProxy;

  private constructor(s3: S3Lab, proxy: FaultProxy) {
    this.s3 = s3;
    this.proxy = proxy;
    this.admin = this.client(s3.env);
  }

  static async start(make: S3Make = "minio"): Promise<LockLab> {
    const s3 = await startS3({ make, objectLock: true });
    Object.assign(process.env, s3.env);
    return new LockLab(s3, await startFaultProxy(s3.endpoint, { seed: 1, silenceMs: 1000 }));
  }

  async stop(): Promise<void> {
    this.admin.destroy();
    await this.proxy.stop();
    await this.s3.stop();
  }

  client({ AWS_ACCESS_KEY_ID = "", AWS_SECRET_ACCESS_KEY = "", AWS_SESSION_TOKEN }: NodeJS.ProcessEnv): S3Client {
    const session = AWS_SESSION_TOKEN === undefined ? {} : { sessionToken: AWS_SESSION_TOKEN };
    const credentials = { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY, ...session };
    return new S3Client({ region: this.s3.region, endpoint: this.s3.endpoint, forcePathStyle: true, credentials });
  }

  /** What the bucket gives to new objects from now on. */
  async lockByDefault(rule: { readonly Mode: "GOVERNANCE" | "COMPLIANCE"; readonly Days: number } | null): Promise<void> {
    const ObjectLockConfiguration = {
      ObjectLockEnabled: "Enabled",
      ...(rule === null ? {} : { Rule: { DefaultRetention: rule } }),
    } as const;
    await this.admin.send(new PutObjectLockConfigurationCommand({ Bucket: this.s3.bucket, ObjectLockConfiguration }));
  }

  /** The store at a prefix. @param at what was there then */
  connect(prefix: string, at: Date | null = null): S3ObjectStore {
    const url = this.s3.url(prefix).replace(this.s3.endpoint, this.proxy.endpoint);
    return new S3ObjectStore(parseStoreUrl(at === null ? url : `${url}&at=${at.toISOString()}`) as S3Location);
  }

  /** Requests that the proxy has seen since the last call, by method. */
  requests(): Readonly<Record<string, number>> {
    const seen = { ...this.proxy.requests };
    const since = Object.fromEntries(Object.entries(seen).map(([kind, count]) => [kind, count - (this.#seen[kind] ?? 0)]));
    this.#seen = seen;
    return since;
  }

  #seen: Readonly<Record<string, number>> = {};
}

/** A repository in the bucket, and a machine whose disk changes. */
export class LockedRepository {
  readonly lab: LockLab;
  readonly prefix = `cluster/${randomBytes(4).toString("hex")}`;
  readonly store: S3ObjectStore;
  readonly disk = new MemoryDisk("vda", 2048 * KiB);
  readonly contents = new Map<string, Buffer>();
  repository!: Repository;
  readonly #key: Buffer | null;

  private constructor(lab: LockLab, key: Buffer | null) {
    this.lab = lab;
    this.#key = key;
    this.store = lab.connect(this.prefix);
  }

  /** A place where there is nothing yet. */
  static empty(lab: LockLab, key: Buffer | null = KEY): LockedRepository {
    return new LockedRepository(lab, key);
  }

  static async create(lab: LockLab, points: number, key: Buffer | null = KEY): Promise<LockedRepository> {
    const made = new LockedRepository(lab, key);
    made.repository = await newRepository(made.store, key);
    made.disk.write(0, randomBytes(1024 * KiB));
    for (let i = 0; i < points; i++) await made.backup();
    return made;
  }

  async backup(): Promise<PointRecord> {
    this.disk.write((this.contents.size % 8) * 128 * KiB, randomBytes(64 * KiB));
    const point = await take(this.repository, [this.disk], { captures: { "domain.xml": randomBytes(500) } });
    this.disk.checkpoint();
    this.contents.set(point.id, Buffer.from(this.disk.bytes));
    return point;
  }

  /** The repository as it is so many hours later. */
  async later(hours: number, store: ObjectStore = this.lab.connect(this.prefix)): Promise<Repository> {
    return await Repository.open({ store: inHours(aged(store, 0), hours), key: this.#key });
  }

  /** Extends the locks, as it is so many hours later. */
  async lock(hours: number, options: Partial<LockOptions> = {}): Promise<LockReport> {
    return await extendLocks(await this.later(hours), { periodMs: 24 * HOUR, budget: 1000, signal, ...options });
  }

  /** All versions below a prefix of the repository. */
  async versions(prefix = ""): Promise<(ObjectVersion & { readonly Key: string })[]> {
    const { Versions = [] } = await this.lab.admin.send(
      new ListObjectVersionsCommand({ Bucket: this.lab.s3.bucket, Prefix: `${this.prefix}/${prefix}` }),
    );
    return Versions.map((version) => ({ ...version, Key: version.Key ?? "" }));
  }

  /** When the lock of a version ends; null where it has none. */
  async lockOf({ Key, VersionId }: ObjectVersion): Promise<Date | null> {
    const command = new GetObjectRetentionCommand({ Bucket: this.lab.s3.bucket, Key, VersionId });
    return await this.lab.admin.send(command).then(
      ({ Retention }) => Retention?.RetainUntilDate ?? null,
      (thrown: unknown) => {
        if (thrown instanceof Error && /NoSuchObjectLock/.test(thrown.name)) return null;
        throw thrown;
      },
    );
  }

  /** Whether the store lets its own administrator take a version away. */
  async destroy({ Key, VersionId }: ObjectVersion): Promise<boolean> {
    return await this.lab.admin.send(new DeleteObjectCommand({ Bucket: this.lab.s3.bucket, Key, VersionId })).then(
      () => true,
      () => false,
    );
  }
}
