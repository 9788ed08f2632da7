import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";

import { skipWithout, startS3, tempDir } from "../lab/index.ts";
import { underPolicy } from "../lab/s3-admin.ts";
import { type CliOptions, type CliResult, thinstream, thinstreamJson } from "../support/thinstream.ts";

const PATIENCE = { timeout: 180_000 };
const WORDS = "correct horse battery staple";

let dir: string;
let url: string;
let image: Buffer;
beforeEach(() => {
  dir = tempDir("keys");
  url = `file://${dir}/repo`;
  image = Buffer.concat([randomBytes(300_000), Buffer.alloc(200_000)]).subarray(0, 458_752);
  writeFileSync(join(dir, "disk.raw"), image);
  writeFileSync(join(dir, "words"), `${WORDS}\n`, { mode: 0o600 });
});

const file = (name: string): string => join(dir, name);
const key = ["--key-file", "root.key"] as const;
const phrase = ["--passphrase-file", "words"] as const;

async function run(...args: readonly string[]): Promise<CliResult> {
  const words = args[0] === "key" ? 2 : 1;
  return await thinstream([...args.slice(0, words), "--repo", url, ...args.slice(words)], { cwd: dir });
}

async function ok(...args: readonly string[]): Promise<CliResult> {
  const result = await run(...args);
  expect(result, `${args.join(" ")}: ${result.stderr}`).toMatchObject({ code: 0 });
  return result;
}

async function refused(said: RegExp, ...args: readonly string[]): Promise<void> {
  const { code, stderr } = await run(...args);
  expect(stderr).toMatch(said);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  expect([1, 2]).toContain(code);
}

async function restores(...credential: readonly string[]): Promise<void> {
  await ok("restore", "--point", "latest", "--output", "out", ...credential);
  expect(readFileSync(file("out/vda.raw")).equals(image)).toBe(true);
  rmSync(file("out"), { recursive: true });
}

interface KeyListJson {
  readonly keyId: string;
  readonly rotations: number;
  readonly openedBy: string | null;
  readonly slots: readonly { readonly id: string; readonly kind: string; readonly label: string; readonly state: string }[];
}

async function list(...credential: readonly string[]): Promise<KeyListJson> {
  return await thinstreamJson<KeyListJson>(["key", "list", "--repo", url, ...credential], { cwd: dir });
}

test("a passphrase and another key file do all that the key does; removed, they do nothing", PATIENCE, async () => {
  await ok("init", ...key);
  await ok("backup", ...key, "--image", "disk.raw");
  await ok("key", "add", ...key, "--new-passphrase-file", "words", "--label", "the safe");
  await ok("key", "add", ...phrase, "--new-key-file", "alice.key", "--label", "alice");
  await ok("backup", "--key-file", "alice.key", "--image", "disk.raw");
  for (const credential of [key, phrase, ["--key-file", "alice.key"]]) await restores(...credential);
  const listed = await list(...phrase);
  expect(listed.slots.map(({ kind, label, state }) => `${kind}, ${label}, ${state}`).toSorted()).toEqual([
    "key-file, alice, opens",
    "passphrase, the safe, opens",
  ]);
  const slotOf = (label: string): string => listed.slots.find((slot) => slot.label === label)?.id ?? "";
  expect(listed.openedBy).toBe(slotOf("the safe"));
  const { stdout } = await ok("key", "remove", ...phrase, slotOf("alice"));
  expect(stdout).toContain(`by ${slotOf("the safe")} (the safe)`);
  await refused(/not the repository's/, "points", "--key-file", "alice.key");
  await refused(/the last one.*only the repository key itself.*--last-way-in/, "key", "remove", ...phrase, slotOf("the safe"));
  await ok("key", "remove", ...phrase, slotOf("the safe"), "--last-way-in");
  await refused(/No passphrase opens this repository/, "points", ...phrase);
  await restores(...key);
});

test("a repository can be made for a passphrase alone, and what is wrong is said apart", PATIENCE, async () => {
  await ok("init", ...phrase);
  await ok("backup", ...phrase, "--image", "disk.raw");
  await restores(...phrase);
  writeFileSync(file("crlf"), `${WORDS}\r\n`, { mode: 0o600 });
  await restores("--passphrase-file", "crlf");
  expect(existsSync(file("repo/slots"))).toBe(true);
  writeFileSync(file("wrong"), "correct horse battery stable", { mode: 0o600 });
  await refused(/passphrase is wrong/, "points", "--passphrase-file", "wrong");
  await refused(/passphrase file none cannot be read/, "points", "--passphrase-file", "none");
  writeFileSync(file("empty"), "\n", { mode: 0o600 });
  await refused(/empty is empty/, "points", "--passphrase-file", "empty");
  await refused(/exclude each other/, "points", ...phrase, ...key);
  const [slot = ""] = readdirSync(file("repo/slots"));
  const bytes = readFileSync(file(`repo/slots/${slot}`), "utf8");
  writeFileSync(file(`repo/slots/${slot}`), bytes.replace("init", "Init"));
  await refused(new RegExp(`no passphrase that can be read.*slots/${slot}`), "points", ...phrase);
  writeFileSync(file(`repo/slots/${slot}`), bytes);
  await refused(/the last one/, "key", "remove", ...phrase, slot);
  await restores(...phrase);
});

test("rotation: the old key and those it let in are out, the new one restores everything, and no data was written", PATIENCE, async () => {
  await ok("init", ...key);
  await ok("backup", ...key, "--image", "disk.raw");
  await ok("key", "add", ...key, "--new-key-file", "alice.key", "--label", "alice");
  const before = contents();
  await refused(/would end a slot.*\(alice\).*--end-slots/, "key", "rotate", ...key, "--new-key-file", "new.key");
  expect(existsSync(file("new.key"))).toBe(false);
  await refused(/is there already/, "key", "rotate", ...key, "--new-key-file", "alice.key", "--end-slots");
  await refused(/takes no new one/, "key", "rotate", ...key, "--new-key-file", "new.key", "--finish");
  await refused(/Say what is to open/, "key", "rotate", ...key);
  expect(contents()).toEqual(before);
  await ok("key", "rotate", ...key, "--new-key-file", "new.key", "--new-passphrase-file", "words", "--end-slots");
  await refused(/was the repository's until it was replaced/, "points", ...key);
  await refused(/not the repository's/, "points", "--key-file", "alice.key");
  await restores("--key-file", "new.key");
  await restores(...phrase);
  await ok("backup", "--key-file", "new.key", "--image", "disk.raw");
  await ok("check", ...phrase);
  const after = contents();
  for (const [path, bytes] of before) if (!/^(?:keys|slots|heads|hints)\//.test(path)) expect(after.get(path), path).toBe(bytes);
  await ok("key", "rotate", ...phrase, "--finish");
  expect(await list("--key-file", "new.key")).toMatchObject({
    rotations: 1,
    openedBy: null,
    slots: [{ kind: "passphrase", state: "opens" }],
  });
});

test("no key and no passphrase is said, logged or in a command line, however it ends", PATIENCE, async () => {
  const said: CliResult[] = [await ok("init", ...key)];
  let argv = "";
  const peek: CliOptions = { cwd: dir, onStart: ({ pid }) => (argv = readFileSync(`/proc/${pid}/cmdline`, "utf8")) };
  said.push(await thinstream(["key", "add", "--repo", url, ...key, "--new-passphrase-file", "words", "--json"], peek));
  said.push(await ok("key", "add", ...phrase, "--new-key-file", "alice.key"));
  said.push(await ok("key", "list", ...phrase), await ok("key", "list", ...key, "--json"));
  const slots = readdirSync(file("repo/slots"));
  for (const slot of slots) writeFileSync(file(`repo/slots/${slot}`), readFileSync(file(`repo/slots/${slot}`)).subarray(9));
  said.push(await run("points", ...phrase), await run("points", "--key-file", "alice.key"), await run("key", "list", ...key));
  said.push(await run("key", "rotate", ...key, "--new-key-file", "new.key", "--new-passphrase-file", "words"));
  writeFileSync(file("broken.key"), readFileSync(file("root.key"), "utf8").replace("key-1", "key-2"), { mode: 0o600 });
  said.push(await run("points", "--key-file", "broken.key"), await run("points", "--passphrase-file", "root.key"));
  expect(said.map(({ code }) => code)).toEqual([0, 0, 0, 0, 0, 1, 1, 3, 0, 1, 1]);
  expect(argv).toContain("--new-passphrase-file");
  const secrets = [WORDS, ...["root.key", "alice.key", "new.key"].map((name) => readFileSync(file(name), "utf8").split(" ")[1] ?? "")];
  const all = [argv, ...said.flatMap(({ stdout, stderr }) => [stdout, stderr]), ...contents().values()].join("\n");
  for (const secret of secrets) {
    expect(secret.length).toBeGreaterThan(20);
    expect(all.includes(secret)).toBe(false);
    expect(all.includes(Buffer.from(secret, "hex").toString("latin1")) && secret !== WORDS).toBe(false);
  }
});

test.skipIf(skipWithout("s3"))(
  "an init that fails after the repository is there keeps its key, and one that made nothing keeps none",
  PATIENCE,
  async () => {
    const lab = await startS3();
    onTestFinished(async () => await lab.stop());
    const all = { Effect: "Allow", Action: ["s3:*"], Resource: ["arn:aws:s3:::*"] };
    const but = async (denied: string): Promise<NodeJS.ProcessEnv> =>
      await underPolicy(lab, {
        Version: "2012-10-17",
        Statement: [all, { Effect: "Deny", Action: ["s3:PutObject"], Resource: [`arn:aws:s3:::${lab.bucket}/${denied}`] }],
      });
    const init = async (prefix: string, denied: string): Promise<CliResult> =>
      await thinstream(["init", "--repo", lab.url(prefix), "--key-file", `${prefix}.key`], { cwd: dir, env: await but(denied) });
    expect((await init("whole", "*/config")).code).toBe(1);
    expect(existsSync(file("whole.key"))).toBe(false);
    expect((await init("half", "*/keys/*")).code).toBe(1);
    expect(existsSync(file("half.key"))).toBe(true);
    const points = await thinstream(["points", "--repo", lab.url("half"), "--key-file", "half.key"], { cwd: dir, env: lab.env });
    expect(points).toMatchObject({ code: 0 });
    await thinstream(["init", "--repo", lab.url("half"), "--key-file", "other.key"], { cwd: dir, env: lab.env });
    expect(existsSync(file("other.key"))).toBe(false);
  },
);

/** Every object, as text of one character a byte. */
function contents(): Map<string, string> {
  const entries = readdirSync(file("repo"), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    entries.map(({ parentPath, name }) => {
      const path = join(parentPath, name);
      return [path.slice(file("repo/").length), readFileSync(path, "latin1")];
    }),
  );
}
