// Tier `s3`: MinIO, built from the Go modules that test/lab/s3/go.sum pins.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CannotDo, cached, has, hashOf, mortal, root, run } from "./util.mjs";

const MODULE = "github.com/minio/minio";

export async function ensureS3() {
  const dir = join(root, "test/lab/s3");
  const pins = ["go.mod", "go.sum"].map((file) => readFileSync(join(dir, file)));
  const built = await cached("s3", hashOf(...pins), async (out) => {
    if (!has("go")) throw new CannotDo("go (1.24 or later) is not on PATH, and the S3 server is built with it");
    mkdirSync(out, { recursive: true });
    const build = ["-n", "10", "go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", join(out, "minio"), MODULE];
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" };
    await run({ tier: "s3", what: "building the S3 server from Go modules (about 5 minutes once)" }, ...mortal("nice", build), {
      cwd: dir,
      env,
    });
  });
  return join(built, "minio");
}
