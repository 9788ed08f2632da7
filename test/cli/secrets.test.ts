import { randomBytes } from "node:crypto";
import { appendFileSync, chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BackupWork } from "../../src/api/index.ts";
import { parseKeyFile } from "../../src/repository/index.ts";
import { createImage, run, type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { restricted } from "../lab/s3-admin.ts";
import { listen } from "../objectstore/s3/damaging-proxy.ts";
import { PlacedOrder, reachStep } from "../orders/placed-order.ts";
import { type CliResult, thinstream } from "../support/thinstream.ts";

/** Programs that commands start. */
const TOOLS = ["setpriv", "qemu-nbd", "qemu-img", "fallocate"];

describe.skipIf(skipWithout("s3", "host"))("no secret is in what commands say, nor in what the programs they start are given", () => {
  const dir = tempDir("secrets");
  const [tools, childLog, said] = [join(dir, "tools"), join(dir, "children"), join(dir, "said")];
  const passphrase = `hush-${randomBytes(12).toString("hex")}`;
  const [keyFile, otherKey, nextKey, passphraseFile, image] = ["key", "other", "next", "passphrase", "web.qcow2"].map((name) =>
    join(dir, name),
  ) as [string, string, string, string, string];
  /** what must be nowhere, by what it is */
  const secrets = new Map<string, string>([["the passphrase", passphrase]]);
  let lab: S3Lab;
  let env: NodeJS.ProcessEnv;
  let flags: string[];
  let echo: Server;
  let echoing: string;

  beforeAll(async () => {
    mkdirSync(tools);
    for (const tool of TOOLS) await wrap(tool);
    lab = await startS3();
    // With a session token, as roles give them.
    env = inTools({ ...(await restricted(lab, ["s3:*"])), THINSTREAM_LOG: "debug" });
    keep("the session's secret key", env["AWS_SECRET_ACCESS_KEY"]);
    keep("the session token", env["AWS_SESSION_TOKEN"]);
    keep("the secret key", lab.secretAccessKey);
    flags = ["--repo", lab.url("secrets"), "--key-file", keyFile];
    writeFileSync(passphraseFile, `${passphrase}\n`, { mode: 0o600 });
    await createImage(image, { size: "8M" });
    await run("qemu-io", ["-f", "qcow2", "-c", "write -P 7 1M 2M", image]);
    echo = createServer((request, response) => {
      response.writeHead(request.url?.includes("denied") === true ? 403 : 500, { "content-type": "application/xml" });
      const { "x-amz-security-token": token = "" } = request.headers;
      const quoted = `your key is ${env["AWS_SECRET_ACCESS_KEY"]}, and you sent ${String(token)}`;
      response.end(`<?xml version="1.0"?><Error><Code>Confused</Code><Message>${quoted}</Message></Error>`);
    });
    echoing = await listen(echo);
  });
  afterAll(async () => {
    echo?.closeAllConnections();
    echo?.close();
    await lab?.stop();
  });

  /** A program in the place of one of the system's, that notes what it was given and goes on as that one. */
  async function wrap(tool: string): Promise<void> {
    const real = (await run("sh", ["-c", `command -v ${tool}`])).trim();
    const path = join(tools, tool);
    const notes = `echo "== ${tool}"; tr '\\0' '\\n' </proc/$$/cmdline; tr '\\0' '\\n' </proc/$$/environ; grep core /proc/$$/limits; echo "filter $(cat /proc/$$/coredump_filter)"`;
    writeFileSync(path, `#!/bin/sh\n{ ${notes}; } >>'${childLog}'\nexec ${real} "$@"\n`);
    chmodSync(path, 0o755);
  }

  function inTools(more: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
    return { ...more, PATH: `${tools}:${process.env["PATH"]}` };
  }

  function keep(what: string, secret: string | undefined): void {
    if (secret === undefined || secret.length < 16) throw new Error(`${what} is none`);
    secrets.set(what, secret);
    // Messages are cut.
    if (secret.length > 48) secrets.set(`the beginning of ${what}`, secret.slice(0, 48));
  }

  function keepKey(path: string): void {
    const key = parseKeyFile(readFileSync(path, "utf8"));
    for (const encoding of ["hex", "base64", "base64url", "latin1"] as const) keep(`${path} in ${encoding}`, key.toString(encoding));
  }

  async function cli(args: readonly string[], code: number, options: { readonly env?: NodeJS.ProcessEnv } = {}): Promise<CliResult> {
    const result = await thinstream(args, { env: { ...env, ...options.env } });
    appendFileSync(said, `${result.stdout}\n${result.stderr}\n`);
    expect([result.code, args.join(" "), result.stderr], result.stderr).toEqual([code, args.join(" "), result.stderr]);
    return result;
  }

  function expectNone(where: string): void {
    const text = readFileSync(where, "latin1");
    for (const [what, secret] of secrets) expect(text.includes(secret), `${what} is in ${where}`).toBe(false);
  }

  test("by commands that do their work", { timeout: 600_000 }, async () => {
    const other = ["--repo", `file://${dir}/second`, "--key-file", otherKey];
    await cli(["init", ...flags], 0);
    await cli(["init", ...other, "--json"], 0);
    for (const path of [keyFile, otherKey]) keepKey(path);
    await cli(["backup", ...flags, "--image", image], 0);
    await cli(["backup", ...flags, "--image", image, "--json"], 0);
    await cli(["points", ...flags], 0);
    await cli(
      [
        "copy",
        "--all",
        "--from",
        lab.url("secrets"),
        "--from-key-file",
        keyFile,
        "--to",
        `file://${dir}/second`,
        "--to-key-file",
        otherKey,
      ],
      0,
    );
    await cli(["key", "add", ...flags, "--new-passphrase-file", passphraseFile], 0);
    await cli(["key", "list", "--repo", lab.url("secrets"), "--passphrase-file", passphraseFile], 0);
    await cli(["key", "rotate", ...flags, "--new-key-file", nextKey, "--end-slots", "--new-passphrase-file", passphraseFile], 0);
    keepKey(nextKey);
    flags = ["--repo", lab.url("secrets"), "--key-file", nextKey];
    await cli(["restore", ...flags, "--point", "latest", "--vm", "web", "--output", join(dir, "out"), "--format", "qcow2"], 0);
    await cli(["check", ...flags], 0);
    await cli(["check", ...flags, "--level", "list", "--json"], 0);
    await cli(["prune", ...flags], 0);
    expectNone(said);
  });

  test(
    "by commands that fail: no bucket, no right, wrong and broken keys, a server that quotes what it was sent",
    { timeout: 600_000 },
    async () => {
      const at = (url: string, key = nextKey): string[] => ["--repo", url, "--key-file", key];
      await cli(["points", ...at(lab.url("secrets").replace("s3://backups/", "s3://nobodys/"))], 1);
      await cli(["points", ...flags], 1, { env: { AWS_SECRET_ACCESS_KEY: secrets.get("the secret key") } });
      await cli(["backup", ...flags, "--image", image], 1, { env: await restricted(lab, ["s3:GetObject"]) });
      await cli(["points", ...at(lab.url("secrets"), keyFile)], 1);
      await cli(["points", ...at(lab.url("secrets"), otherKey), "--json"], 1);
      const broken = join(dir, "broken");
      writeFileSync(broken, readFileSync(keyFile, "utf8").replace(/.\n$/, "x\n"), { mode: 0o600 });
      await cli(["points", ...at(lab.url("secrets"), broken)], 1);
      const words = join(dir, "words");
      writeFileSync(words, `${passphrase}-no`, { mode: 0o600 });
      await cli(["points", "--repo", lab.url("secrets"), "--passphrase-file", words], 1);
      const denied = await cli(["points", ...at(`s3://denied/x?endpoint=${echoing}&region=us-east-1`)], 1);
      expect(denied.stderr).toContain("your key is [hidden], and you sent [hidden]");
      await cli(["points", ...at(`s3://key:${secrets.get("the session token")}@denied/x?endpoint=${echoing}`)], 2);
      expectNone(said);
    },
  );

  test("nor while they try again", { timeout: 120_000 }, async () => {
    let stderr = "";
    const result = await thinstream(["points", "--repo", `s3://confused/x?endpoint=${echoing}&region=us-east-1`, "--key-file", nextKey], {
      env,
      onStart: (child) =>
        child.stderr?.on("data", (chunk: Buffer) => {
          stderr += chunk.toString();
          if (stderr.includes("Confused")) child.kill("SIGTERM");
        }),
    });
    appendFileSync(said, result.stdout + result.stderr);
    expect(result.stderr).toContain("Confused");
    expectNone(said);
  });

  test("nor by an agent, in its log, its termination message and its result", { timeout: 300_000 }, async () => {
    const work: BackupWork = {
      type: "backup",
      vm: { name: "team-a/web", uid: "3b9d5c0e-5a4f-4e0f-8f0e-1c2d3e4f5a6b" },
      level: "auto",
      excludeDisks: [],
      disks: null,
      compression: "lz4",
      source: { engine: "image", images: [{ disk: "vda", path: image, format: "qcow2" }] },
      freeze: { mode: "Auto", by: "libvirt", timeoutSeconds: 30 },
      captures: [],
    };
    for (const [name, url, code] of [
      ["works", lab.url("secrets"), 0],
      ["denied", `s3://denied/x?endpoint=${echoing}&region=us-east-1`, 1],
      ["nobodys", lab.url("secrets").replace("s3://backups/", "s3://nobodys/"), 1],
    ] as const) {
      const placed = await PlacedOrder.place(join(dir, name), work, { repository: { url, keyFile: nextKey } });
      keep("the key of the channel", placed.order.channel.key);
      const end = await placed.run({ env });
      appendFileSync(said, `${end.stderr}\n${readFileSync(placed.terminationLog, "utf8")}\n`);
      expect([name, end.code], end.stderr).toEqual([name, code]);
    }
    expectNone(said);
  });

  test(
    "in a command's arguments and limits, which others can see, and in what is left of it when it dies",
    { timeout: 120_000 },
    async () => {
      const steps = join(dir, "steps");
      let pid = 0;
      const running = thinstream(["backup", ...flags, "--image", image], {
        env: { ...env, THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: "opened" },
        onStart: (child) => (pid = child.pid ?? 0),
      });
      await reachStep(steps, "opened");
      const seen = join(dir, "seen");
      writeFileSync(seen, readFileSync(`/proc/${pid}/cmdline`));
      const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
      const filter = readFileSync(`/proc/${pid}/coredump_filter`, "utf8");
      await run("rm", [steps]);
      expect((await running).code).toBe(0);
      expectNone(seen);
      expect(limits).toMatch(/^Max core file size +0 +0 /m);
      expect(Number.parseInt(filter, 16)).toBe(0);
    },
  );

  test("and the programs they started had neither credentials nor cores", () => {
    expect(existsSync(childLog)).toBe(true);
    const notes = readFileSync(childLog, "latin1").split(/^== /m).slice(1);
    expect(new Set(notes.map((note) => note.split("\n")[0]))).toEqual(new Set(["setpriv", "qemu-nbd", "qemu-img"]));
    for (const note of notes) {
      expect(note).not.toMatch(/^(?:AWS|THINSTREAM)_/m);
      expect(note).toMatch(/^Max core file size +0 +0 /m);
      expect(note).toMatch(/^filter 0+$/m);
    }
    expectNone(childLog);
    console.log(
      `${notes.length} programs started; ${secrets.size} secrets looked for in ${readFileSync(said).length} bytes that were said`,
    );
  });
});
