// Tier `reader`: the independent reader of repositories, built from test/independent-reader and the Go modules its go.sum pins.
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { CannotDo, cached, has, hashOf, mortal, root, run } from "./util.mjs";

export async function ensureReader() {
  const dir = join(root, "test/independent-reader");
  const sources = readdirSync(dir).filter((name) => name.endsWith(".go") || name.startsWith("go."));
  const contents = sources.toSorted().flatMap((name) => [name, readFileSync(join(dir, name))]);
  const built = await cached("reader", hashOf(...contents), async (out) => {
    if (!has("go")) throw new CannotDo("go (1.25 or later) is not on PATH, and the independent reader is built with it");
    mkdirSync(out, { recursive: true });
    const build = ["-n", "10", "go", "build", "-p", "2", "-trimpath", "-o", join(out, "reader"), "."];
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" };
    await run({ tier: "reader", what: "building the independent reader (some seconds once)" }, ...mortal("nice", build), { cwd: dir, env });
  });
  return join(built, "reader");
}
