import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Tier } from "./tiers.ts";

/** Whose S3 server. */
export type S3Make = "minio" | "versitygw";

/** Where a server runs, and who may use it. */
export interface S3Place {
  /** what it stores */
  readonly dir: string;
  /** what else it writes */
  readonly home: string;
  readonly port: number;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

interface Make {
  readonly tier: Tier;
  /** path that answers 200 once the server serves */
  readonly health: string;
  readonly args: (place: S3Place) => readonly string[];
  readonly env: (place: S3Place) => NodeJS.ProcessEnv;
}

export const s3Makes: Readonly<Record<S3Make, Make>> = {
  minio: {
    tier: "s3",
    health: "/minio/health/ready",
    args: ({ port, dir }) => ["server", "--quiet", "--address", `127.0.0.1:${port}`, dir],
    env: ({ accessKeyId, secretAccessKey, region }) => ({
      MINIO_ROOT_USER: accessKeyId,
      MINIO_ROOT_PASSWORD: secretAccessKey,
      MINIO_BROWSER: "off",
      MINIO_UPDATE: "off",
      MINIO_REGION: region,
    }),
  },
  versitygw: {
    tier: "versitygw",
    health: "/thinstream-health",
    args: ({ port, dir, home, region }) => {
      // Beside the buckets: not every file system keeps extended attributes.
      const [sidecar, versions] = [join(home, "metadata"), join(home, "versions")];
      for (const made of [sidecar, versions]) mkdirSync(made, { recursive: true });
      const serve = ["--quiet", "--port", `127.0.0.1:${port}`, "--region", region, "--health", "/thinstream-health"];
      return [...serve, "posix", "--versioning-dir", versions, dir];
    },
    env: ({ accessKeyId, secretAccessKey }) => ({ ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey }),
  },
};
