import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { type S3Make, type S3Place, s3Makes } from "./s3-makes.ts";
import { Server, freePort } from "./server.ts";
import { tempDir } from "./temp-dir.ts";
import { needTier, tierPath } from "./tiers.ts";

/** A real S3 server with conditional writes and Object Lock, on a loopback port of its own, with data of its own. */
export interface S3Lab {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** What a program that uses the SDK's usual chain of credentials needs in its environment. */
  readonly env: { readonly AWS_ACCESS_KEY_ID: string; readonly AWS_SECRET_ACCESS_KEY: string; readonly AWS_REGION: string };
  /** The repository URL of a prefix in the bucket. */
  url(prefix: string): string;
  /** Another bucket. */
  createBucket(name: string, options?: { readonly objectLock?: boolean }): Promise<void>;
  /** Kills the server, which keeps its data: nobody answers on its port until `resume`. */
  halt(): Promise<void>;
  /** Starts it again on the same port, with the same data. @throws LabError */
  resume(): Promise<void>;
  /** Kills the server and removes its data; safe to call again. */
  stop(): Promise<void>;
}

export interface S3LabOptions {
  /** Whose server; default MinIO's. */
  readonly make?: S3Make;
  readonly bucket?: string;
  readonly objectLock?: boolean;
  /** Where its data goes, e.g. below a file system of a certain size; removed with the server. Default: a new directory. */
  readonly dir?: string;
}

const REGION = "us-east-1";

/**
 * Starts the server and makes one bucket. It ends with this process in any case.
 * @throws LabError when the tier is not there or the server does not come up
 */
export async function startS3(options: S3LabOptions = {}): Promise<S3Lab> {
  const { bucket = "backups", objectLock = false, make = "minio" } = options;
  const { tier } = s3Makes[make];
  needTier(tier);
  const credentials = { accessKeyId: `lab${randomBytes(6).toString("hex")}`, secretAccessKey: randomBytes(20).toString("hex") };
  const home = mkdtempSync(join(tempDir(tier), "data-"));
  const dir = options.dir ?? join(home, "buckets");
  mkdirSync(dir, { recursive: true });
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const start = (): Server => startServer(make, { dir, home, port, region: REGION, ...credentials });
  const ready = async (): Promise<boolean> => await answers(endpoint + s3Makes[make].health);
  let server = start();
  const client = new S3Client({ region: REGION, endpoint, forcePathStyle: true, credentials });
  const lab: S3Lab = {
    endpoint,
    region: REGION,
    bucket,
    ...credentials,
    env: { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey, AWS_REGION: REGION },
    url: (prefix) => `s3://${bucket}/${prefix}?endpoint=${endpoint}&region=${REGION}`,
    createBucket: async (name, { objectLock: lock = false } = {}) => {
      await client.send(new CreateBucketCommand({ Bucket: name, ObjectLockEnabledForBucket: lock }));
    },
    halt: () => server.stop(),
    resume: async () => {
      server = start();
      await server.untilReady(ready);
    },
    stop: async () => {
      client.destroy();
      await server.stop();
      for (const made of [dir, home]) rmSync(made, { recursive: true, force: true });
    },
  };
  try {
    await server.untilReady(ready);
    await lab.createBucket(bucket, { objectLock });
    return lab;
  } catch (cause) {
    await lab.stop();
    throw cause;
  }
}

function startServer(make: S3Make, place: S3Place): Server {
  const { tier, args, env } = s3Makes[make];
  return new Server({
    name: `the S3 server (${make})`,
    command: tierPath(tier),
    args: args(place),
    log: `${place.home}.log`,
    env: { PATH: process.env["PATH"], HOME: place.home, ...env(place) },
  });
}

async function answers(url: string): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
  await answer?.body?.cancel();
  return answer?.ok === true;
}
