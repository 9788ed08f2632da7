import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format, resolveConfig } from "prettier";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startForgetfulProxy } from "../acceptance/forgetful-proxy.ts";
import { type S3Lab, type S3Make, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { restricted } from "../lab/s3-admin.ts";
import { type BackupJson, thinstream, thinstreamJson } from "../support/thinstream.ts";

const root = join(import.meta.dirname, "..", "..");
const page = join(root, "docs/providers.md");
const lock = { objectLock: true };

interface StoreTestJson {
  readonly usable: boolean;
  readonly findings: readonly { readonly check: string; readonly need: string; readonly state: string; readonly means: string }[];
  readonly leftovers: readonly { readonly objects: number; readonly reason: string }[];
}

interface Column {
  readonly name: string;
  readonly found: StoreTestJson;
}

describe.skipIf(skipWithout("s3", "versitygw"))("docs/providers.md", () => {
  const labs = new Map<S3Make, S3Lab>();
  const columns: Column[] = [];
  beforeAll(async () => {
    for (const make of ["minio", "versitygw"] as const) labs.set(make, await startS3({ make, bucket: "plain" }));
    for (const lab of labs.values()) await lab.createBucket("locked", lock);
  });
  afterAll(async () => {
    for (const lab of labs.values()) await lab.stop();
  });

  const of = (make: S3Make): S3Lab => labs.get(make) as S3Lab;
  const urlOf = (make: S3Make, bucket: string, endpoint = of(make).endpoint): string =>
    `s3://${bucket}/deep/er?endpoint=${endpoint}&region=${of(make).region}`;
  const ask = async (name: string, url: string, env: NodeJS.ProcessEnv = {}): Promise<StoreTestJson> => {
    const { code, stdout, stderr } = await thinstream(["store-test", url, "--json"], { env });
    const found = JSON.parse(stdout) as StoreTestJson;
    expect([code, stderr.replaceAll(/^Testing .*\n/gm, "")], name).toEqual([found.usable ? 0 : 1, ""]);
    columns.push({ name, found });
    return found;
  };

  test.each([
    ["MinIO", "minio", "plain"],
    ["MinIO, Object Lock", "minio", "locked"],
    ["Versity", "versitygw", "plain"],
    ["Versity, Object Lock", "versitygw", "locked"],
  ] as const)("%s can keep a repository, and is left clean", async (name, make, bucket) => {
    const found = await ask(name, urlOf(make, bucket), of(make).env);
    expect(found.usable).toBe(true);
    // What was locked is refused for its minute, and nothing else stays.
    expect(found.leftovers.map(({ objects }) => objects)).toEqual(bucket === "locked" ? [1] : []);
  });

  test("a writer without the right to delete is a good one", async () => {
    const env = await restricted(of("minio"), ["s3:PutObject", "s3:GetObject", "s3:ListBucket"]);
    const found = await ask("MinIO, a writer", urlOf("minio", "plain"), env);
    expect(found.usable).toBe(true);
    expect(found.findings.find(({ check }) => check === "delete")).toMatchObject({ state: "not-allowed", means: /^good for a writer/ });
    expect(found.leftovers[0]?.objects).toBeGreaterThan(10);
  });

  test("what drops If-None-Match on the way is refused, here as by init", async () => {
    const proxy = await startForgetfulProxy(of("minio"));
    try {
      const url = urlOf("minio", "plain", proxy.endpoint);
      const found = await ask("no conditional writes", url, of("minio").env);
      expect(found.usable).toBe(false);
      expect(proxy.dropped()).toBeGreaterThan(32);
      const init = await thinstream(["init", "--repo", url, "--no-encryption", "--json"], { env: of("minio").env });
      expect([init.code, (JSON.parse(init.stdout) as { error: { code: string } }).error.code]).toEqual([1, "no-conditional-writes"]);
    } finally {
      await proxy.stop();
    }
  });

  test("a directory can keep one, and is not there afterwards where it was not before", async () => {
    const dir = join(tempDir("store-test"), "repository");
    expect((await ask("a directory", `file://${dir}`)).usable).toBe(true);
    expect(existsSync(dir)).toBe(false);
  });

  test("nobody is told a secret, and a bucket that is not there is no table", async () => {
    const secret = "kept-to-myself-0123456789";
    const env = { ...of("minio").env, AWS_SECRET_ACCESS_KEY: secret };
    const wrong = await thinstream(["store-test", urlOf("minio", "plain")], { env });
    expect(wrong.code).toBe(1);
    expect(wrong.stdout).toMatch(/write, read, overwrite +not allowed +required/);
    for (const text of [secret, of("minio").secretAccessKey, "Signature="]) expect(wrong.stdout + wrong.stderr).not.toContain(text);
    const none = await thinstream(["store-test", urlOf("minio", "nowhere")], { env: of("minio").env });
    expect([none.code, none.stdout]).toEqual([1, ""]);
    expect(none.stderr).toContain('the bucket "nowhere" does not exist');
    expect((await thinstream(["store-test", "s3:/nowhere"])).code).toBe(2);
  });

  test("says what the stores answer", async () => {
    expect(columns.length).toBe(7);
    const config = await resolveConfig(page);
    const before = readFileSync(page, "utf8");
    const after = await format(withTable(before, tableOf(columns)), { ...config, filepath: page });
    if (process.env["THINSTREAM_WRITE_PROVIDERS"] === "1") writeFileSync(page, after);
    else expect(before, "THINSTREAM_WRITE_PROVIDERS=1 npm test -- test/docs/providers writes it anew").toBe(after);
  });
});

describe.skipIf(skipWithout("s3", "versitygw", "host"))("a backup and its restore", () => {
  test.each(["minio", "versitygw"] as const)("are the same bytes again on %s", async (make) => {
    const lab = await startS3({ make });
    const dir = tempDir("providers");
    const [image, key, output] = [join(dir, "disk.raw"), join(dir, "key"), join(dir, "out")];
    const flags = ["--repo", lab.url("repository"), "--key-file", key];
    const env = lab.env;
    try {
      await thinstreamJson(["init", ...flags], { env });
      const states = [randomBytes(3_000_000), randomBytes(5_000_000)].map((bytes) => Buffer.concat([Buffer.alloc(1_000_448), bytes]));
      const points: string[] = [];
      for (const state of states) {
        writeFileSync(image, state.subarray(0, 3_999_744));
        points.push((await thinstreamJson<BackupJson>(["backup", ...flags, "--image", image], { env })).point);
      }
      for (const [i, point] of points.entries()) {
        await thinstreamJson(["restore", ...flags, "--point", point, "--output", join(output, String(i))], { env });
        expect(readFileSync(join(output, String(i), "vda.raw")).equals((states[i] as Buffer).subarray(0, 3_999_744))).toBe(true);
      }
      expect(await thinstreamJson(["check", ...flags], { env })).toMatchObject({ ok: true, points: 2 });
    } finally {
      await lab.stop();
    }
  });
});

const marks = ["<!-- what store-test said: begin -->", "<!-- what store-test said: end -->"] as const;

function withTable(text: string, table: string): string {
  const [begin, end] = marks.map((mark) => text.indexOf(mark)) as [number, number];
  expect([begin > 0, end > begin]).toEqual([true, true]);
  return `${text.slice(0, begin + marks[0].length)}\n\n${table}\n\n${text.slice(end)}`;
}

/** A row for each check, a column for each store; a dash where the store is not asked. */
function tableOf(stores: readonly Column[]): string {
  const checks = new Map(stores.flatMap(({ found }) => found.findings.map(({ check, need }) => [check, need])));
  const rows = [...checks].map(([check, need]) => [
    check,
    need,
    ...stores.map(({ found }) => (found.findings.find((one) => one.check === check)?.state ?? "-").replace("not-", "not ")),
  ]);
  const verdict = ["**a repository can be kept**", "", ...stores.map(({ found }) => (found.usable ? "**yes**" : "**no**"))];
  const head = ["check", "need", ...stores.map(({ name }) => name)];
  const table = [head, head.map(() => "---"), ...rows, verdict].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
  const [minio, versity] = [versionOf("s3", "github.com/minio/minio"), versionOf("versitygw", "github.com/versity/versitygw")];
  return `MinIO ${minio}, one node; the Versity S3 Gateway ${versity} over a directory (\`posix\`, with a directory for versions).\n\n${table}`;
}

function versionOf(tier: string, module: string): string {
  const pins = readFileSync(join(root, "test/lab", tier, "go.mod"), "utf8");
  return new RegExp(`^\\s*${module} (\\S+)`, "m").exec(pins)?.[1] ?? "of no version";
}
