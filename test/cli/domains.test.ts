import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";

import { tempDir } from "../lab/index.ts";
import { type CliResult, thinstream, thinstreamJson } from "../support/thinstream.ts";

const PATIENCE = { timeout: 240_000 };
const key = ["--key-file", "root.key"] as const;
const tenant = ["--key-file", "blue.key"] as const;

let dir: string;
let url: string;
let image: Buffer;
beforeEach(async () => {
  dir = tempDir("domains");
  url = `file://${dir}/repo`;
  image = Buffer.concat([randomBytes(200_000), Buffer.alloc(62_144)]);
  writeFileSync(join(dir, "disk.raw"), image);
  await ok("init", ...key);
  await ok("backup", ...key, "--image", "disk.raw", "--vm", "web");
  await ok("backup", ...key, "--image", "disk.raw", "--vm", "web", "--key-domain", "blue");
});

async function run(...args: readonly string[]): Promise<CliResult> {
  const words = args[0] === "key" || args[0] === "point" ? 2 : 1;
  return await thinstream([...args.slice(0, words), "--repo", url, ...args.slice(words)], { cwd: dir });
}

async function ok(...args: readonly string[]): Promise<string> {
  const result = await run(...args);
  expect(result, `${args.join(" ")}: ${result.stderr}`).toMatchObject({ code: 0 });
  return result.stdout;
}

async function refused(said: RegExp, ...args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(...args);
  expect(stderr, args.join(" ")).toMatch(said);
  expect([1, 2]).toContain(code);
}

async function restores(...flags: readonly string[]): Promise<void> {
  await ok("restore", "--output", "out", ...flags);
  expect(readFileSync(join(dir, "out/vda.raw")).equals(image)).toBe(true);
  rmSync(join(dir, "out"), { recursive: true });
}

interface Listed {
  readonly points: readonly { readonly id: string; readonly vm: string; readonly domain?: string }[];
  readonly destroyed?: readonly { readonly name: string }[];
}

const listed = async (...flags: readonly string[]): Promise<Listed> =>
  await thinstreamJson<Listed>(["points", "--repo", url, ...flags], { cwd: dir });

test(
  "a domain is named at the backup; all that reads and keeps finds its points, and machines of one name are told apart",
  PATIENCE,
  async () => {
    const { points } = await listed(...key);
    expect(points.map(({ vm, domain }) => `${vm} ${domain}`).toSorted()).toEqual(["web blue", "web default"]);
    const blue = points.find(({ domain }) => domain === "blue")?.id ?? "";
    expect((await listed(...key, "--key-domain", "blue")).points.map(({ id }) => id)).toEqual([blue]);
    await restores(...key, "--point", blue);
    await refused(/web.*|2 domains.*--key-domain/s, "restore", ...key, "--point", "latest", "--vm", "web", "--output", "out");
    await restores(...key, "--point", "latest", "--vm", "web", "--key-domain", "blue");
    await refused(/no domain green/, "points", ...key, "--key-domain", "green");
    expect(await ok("show", ...key, blue)).toContain(blue);
    await ok("point", "hold", ...key, blue);
    await refused(/is held/, "forget", ...key, "--point", blue);
    await ok("point", "release", ...key, blue);
    expect(await ok("check", ...key)).toContain("No damage: 2 restore points");
    expect(await ok("prune", ...key)).toContain("2 restore points count");
    expect(await ok("forget", ...key, "--keep-last", "1", "--dry-run")).toMatch(
      /web \(domain blue\)[^]*web \(domain default\)|web \(domain default\)[^]*web \(domain blue\)/,
    );
    await refused(/cannot be the name/, "backup", ...key, "--image", "disk.raw", "--key-domain", "a/b");
  },
);

test("a copy puts each point into the domain of its name", PATIENCE, async () => {
  const other = `file://${dir}/other`;
  await thinstream(["init", "--repo", other, "--key-file", "other.key"], { cwd: dir });
  const copied = await thinstream(
    ["copy", "--all", "--from", url, "--from-key-file", "root.key", "--to", other, "--to-key-file", "other.key"],
    { cwd: dir },
  );
  expect(copied, copied.stderr).toMatchObject({ code: 0 });
  const { points } = await thinstreamJson<Listed>(["points", "--repo", other, "--key-file", "other.key"], { cwd: dir });
  expect(points.map(({ vm, domain }) => `${vm} ${domain}`).toSorted()).toEqual(["web blue", "web default"]);
  // A key that is spoilt is nobody's purpose.
  const [blue = ""] = (
    await thinstreamJson<{ domains: { id: string; name: string }[] }>(["key", "domains", "--repo", url, ...key], { cwd: dir })
  ).domains
    .filter(({ name }) => name === "blue")
    .map(({ id }) => id);
  const at = join(dir, "repo/keys", blue);
  const sealed = readFileSync(at);
  writeFileSync(at, sealed.subarray(1));
  const short = await thinstream(
    ["copy", "--all", "--json", "--from", url, "--from-key-file", "root.key", "--to", other, "--to-key-file", "other.key"],
    { cwd: dir },
  );
  expect(short.code).toBe(1);
  const { failed } = JSON.parse(short.stdout) as { failed: { id: string; message: string }[] };
  expect(failed.find(({ id }) => id === blue)?.message).toMatch(/Nothing of the domain .* can be read/);
  writeFileSync(at, sealed);
  await ok("key", "destroy-domain", ...key, "blue", "--confirm", "blue");
  const again = await thinstream(
    ["copy", "--all", "--from", url, "--from-key-file", "root.key", "--to", other, "--to-key-file", "other.key"],
    { cwd: dir },
  );
  expect(again).toMatchObject({ code: 0, stdout: expect.stringMatching(/There already: 1[^]*domain blue was destroyed/) as string });
});

test("a domain is destroyed by its name said twice, and everything says so afterwards and goes on", PATIENCE, async () => {
  const packs = readdirSync(join(dir, "repo/packs")).length;
  await refused(/would make 1 restore points of the domain blue unreadable.*--confirm blue/s, "key", "destroy-domain", ...key, "blue");
  await refused(/--confirm red is not blue/, "key", "destroy-domain", ...key, "blue", "--confirm", "red");
  await refused(/no domain green/, "key", "destroy-domain", ...key, "green", "--confirm", "green");
  const { points } = await listed(...key);
  await ok("key", "export-domain", ...key, "blue", "--new-key-file", "blue.key");
  const said = await ok("key", "destroy-domain", ...key, "blue", "--confirm", "blue");
  expect(said).toMatch(/Destroyed the key of the domain blue[^]*old versions[^]*export-domain/);
  const blue = points.find(({ domain }) => domain === "blue")?.id ?? "";
  expect(await listed(...key)).toMatchObject({ points: [{ domain: "default" }], destroyed: [{ name: "blue" }] });
  await refused(/domain blue was destroyed/, "restore", ...key, "--point", blue, "--output", "out");
  await refused(/domain blue was destroyed.*take another/s, "backup", ...key, "--image", "disk.raw", "--key-domain", "blue");
  await restores(...key, "--point", "latest", "--vm", "web");
  expect(await ok("check", ...key)).toMatch(/No damage: 1 restore points[^]*domain blue was destroyed.*: 1 points/);
  expect(await ok("prune", ...key)).toContain("are of a domain that was destroyed");
  expect(await ok("key", "domains", ...key)).toMatch(/blue +[0-9a-f]{8} +1 +\S+ +destroyed/);
  expect(readdirSync(join(dir, "repo/packs")).length).toBe(packs);
  await ok("key", "destroy-domain", ...key, "blue", "--confirm", "blue");
});

test("a tenant's key lists, restores and checks its domain and does nothing else; it is in no list and no log", PATIENCE, async () => {
  const said = await ok("key", "export-domain", ...key, "blue", "--new-key-file", "blue.key");
  const secret = readFileSync(join(dir, "blue.key"), "utf8").split(" ")[3] ?? "";
  await refused(/is there already/, "key", "export-domain", ...key, "blue", "--new-key-file", "blue.key");
  const { points } = await listed(...tenant);
  expect(points).toHaveLength(1);
  await restores(...tenant, "--point", points[0]?.id ?? "");
  const other = (await listed(...key)).points.find(({ domain }) => domain === "default")?.id ?? "";
  await refused(/does not open the restore point/, "restore", ...tenant, "--point", other, "--output", "out");
  expect(await ok("check", ...tenant)).toContain("No damage: 1 restore points");
  const nothing = /does nothing else/;
  await refused(nothing, "backup", ...tenant, "--image", "disk.raw");
  await refused(nothing, "forget", ...tenant, "--point", points[0]?.id ?? "");
  await refused(nothing, "point", "hold", ...tenant, points[0]?.id ?? "");
  await refused(nothing, "prune", ...tenant);
  await refused(nothing, "key", "domains", ...tenant);
  await refused(nothing, "key", "rotate", ...tenant, "--new-key-file", "new.key");
  expect(existsSync(join(dir, "new.key"))).toBe(false);
  const { stdout, stderr } = await thinstream(["points", "--repo", url, ...tenant, "--json"], {
    cwd: dir,
    env: { THINSTREAM_LOG: "debug" },
  });
  expect(secret).toMatch(/^[0-9a-f]{64}$/);
  expect(stdout + stderr + said).not.toContain(secret);
});
