import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { Server, freePort } from "./server.ts";
import { tempDir } from "./temp-dir.ts";
import { needTier, tierPath } from "./tiers.ts";

/** A real S3 server (MinIO) with conditional writes and Object Lock, on a loopback port of its own, with data of its own. */
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
  needTier("s3");
  const { bucket = "backups", objectLock = false } = options;
  const credentials = { accessKeyId: `lab${randomBytes(6).toString("hex")}`, secretAccessKey: randomBytes(20).toString("hex") };
  const home = mkdtempSync(join(tempDir("s3"), "data-"));
  const dir = options.dir ?? home;
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  let server = startServer({ dir, home, port }, credentials);
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
      server = startServer({ dir, home, port }, credentials);
      await server.untilReady(() => answers(endpoint));
    },
    stop: async () => {
      client.destroy();
      await server.stop();
      for (const made of [dir, home]) rmSync(made, { recursive: true, force: true });
    },
  };
  try {
    await server.untilReady(() => answers(endpoint));
    await lab.createBucket(bucket, { objectLock });
    return lab;
  } catch (cause) {
    await lab.stop();
    throw cause;
  }
}

function startServer(
  { dir, home, port }: { dir: string; home: string; port: number },
  credentials: { accessKeyId: string; secretAccessKey: string },
): Server {
  return new Server({
    name: "the S3 server",
    command: tierPath("s3"),
    args: ["server", "--quiet", "--address", `127.0.0.1:${port}`, dir],
    log: `${home}.log`,
    env: {
      PATH: process.env["PATH"],
      HOME: home,
      MINIO_ROOT_USER: credentials.accessKeyId,
      MINIO_ROOT_PASSWORD: credentials.secretAccessKey,
      MINIO_BROWSER: "off",
      MINIO_UPDATE: "off",
      MINIO_REGION: REGION,
    },
  });
}

async function answers(endpoint: string): Promise<boolean> {
  const answer = await fetch(`${endpoint}/minio/health/ready`, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
  await answer?.body?.cancel();
  return answer?.ok === true;
}
