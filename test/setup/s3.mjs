// Tiers `s3` and `versitygw`: S3 servers, each built from the Go modules that its go.sum below test/lab pins.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CannotDo, cached, has, hashOf, mortal, root, run } from "./util.mjs";

/** MinIO. */
export async function ensureS3() {
  return buildServer({ tier: "s3", module: "github.com/minio/minio", program: "minio", minutes: 5 });
}

/** The Versity S3 Gateway, a server of another make over a directory. */
export async function ensureVersitygw() {
  return buildServer({ tier: "versitygw", module: "github.com/versity/versitygw/cmd/versitygw", program: "versitygw", minutes: 3 });
}

async function buildServer({ tier, module, program, minutes }) {
  const dir = join(root, "test/lab", tier);
  const pins = ["go.mod", "go.sum"].map((file) => readFileSync(join(dir, file)));
  const built = await cached(tier, hashOf(...pins), async (out) => {
    const [, version] = /^go (\d+\.\d+)/m.exec(String(pins[0])) ?? [];
    if (!has("go")) throw new CannotDo(`go (${version} or later) is not on PATH, and the S3 server is built with it`);
    mkdirSync(out, { recursive: true });
    const build = ["-n", "10", "go", "build", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", join(out, program), module];
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" };
    await run(
      { tier, what: `building the S3 server ${program} from Go modules (about ${minutes} minutes once)` },
      ...mortal("nice", build),
      {
        cwd: dir,
        env,
      },
    );
  });
  return join(built, program);
}
