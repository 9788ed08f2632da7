import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { S3Client, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { run, type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { restricted, setQuota } from "../lab/s3-admin.ts";
import { type BackupJson, type CliResult, thinstream, thinstreamJson } from "../support/thinstream.ts";
import { type ForgetfulProxy, startForgetfulProxy } from "./forgetful-proxy.ts";
import { complaints, expectRefusal, MiB, type PointsJson } from "./world.ts";

/** An image, and commands about it and a repository. */
class Machine {
  readonly dir: string;
  readonly image: string;
  readonly key: string;

  constructor() {
    this.dir = tempDir("bad");
    this.image = join(this.dir, "web.raw");
    this.key = join(this.dir, "key");
    this.change();
  }

  /** New content that nothing compresses. */
  change(): Buffer {
    const bytes = randomBytes(8 * MiB);
    writeFileSync(this.image, bytes);
    return bytes;
  }

  run(command: string, url: string, env: NodeJS.ProcessEnv = {}): Promise<CliResult> {
    const args = command === "backup" ? ["--image", this.image] : [];
    return thinstream([command, "--repo", url, "--key-file", this.key, ...args], { env });
  }

  async points(url: string, env: NodeJS.ProcessEnv = {}): Promise<string[]> {
    const { points } = await thinstreamJson<PointsJson>(["points", "--repo", url, "--key-file", this.key], { env });
    return points.map(({ id }) => id);
  }

  /** A backup that must succeed, restored and compared byte for byte; everything is checked. */
  async expectBackup(url: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
    const flags = ["--repo", url, "--key-file", this.key];
    const { point } = await thinstreamJson<BackupJson>(["backup", ...flags, "--image", this.image], { env });
    const output = join(this.dir, `out-${point}`);
    await thinstreamJson(["restore", ...flags, "--point", point, "--output", output], { env });
    expect(readFileSync(join(output, "vda.raw")).equals(readFileSync(this.image))).toBe(true);
    expect((await thinstream(["check", ...flags], { env })).code).toBe(0);
    return point;
  }
}

describe.skipIf(skipWithout("s3", "host"))("a bucket that refuses", () => {
  let s3: S3Lab;
  let machine: Machine;
  let url: string;
  beforeAll(async () => (s3 = await startS3()));
  beforeEach(() => {
    machine = new Machine();
    url = s3.url(randomBytes(4).toString("hex"));
  });
  afterAll(async () => s3?.stop());

  async function objects(): Promise<string[]> {
    const client = new S3Client({ region: s3.region, endpoint: s3.endpoint, forcePathStyle: true, credentials: s3 });
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: s3.bucket }));
    client.destroy();
    return Contents.map(({ Key = "", ETag = "" }) => `${Key} ${ETag}`).filter((one) => one.startsWith(new URL(url).pathname.slice(1)));
  }

  test("a bucket that does not exist is named, with what to do, by every command", async () => {
    const missing = url.replace("s3://backups/", "s3://nonesuch/");
    const why = new RegExp(`^thinstream: the bucket "nonesuch" does not exist at ${s3.endpoint}\\. create the bucket, or correct its name`);
    expectRefusal(await machine.run("init", missing, s3.env), 1, why);
    expect(existsSync(machine.key)).toBe(false);
    expect((await machine.run("init", url, s3.env)).code).toBe(0);
    for (const command of ["backup", "points", "check"]) expectRefusal(await machine.run(command, missing, s3.env), 1, why);
  });

  test("a wrong secret and an unknown key are told apart, and change nothing", async () => {
    const wrong = { ...s3.env, AWS_SECRET_ACCESS_KEY: "not-the-secret-of-this-server" };
    const unknown = { ...s3.env, AWS_ACCESS_KEY_ID: "nobody" };
    const denied = 'access to the bucket "backups" is denied: cannot .*';
    expectRefusal(await machine.run("init", url, wrong), 1, new RegExp(`${denied}the secret key is not the one of the access key`));
    expect(existsSync(machine.key)).toBe(false);
    expect((await machine.run("init", url, s3.env)).code).toBe(0);
    const before = await objects();
    expect(before).not.toEqual([]);
    expectRefusal(await machine.run("backup", url, wrong), 1, new RegExp(`${denied}the secret key is not the one of the access key`));
    expectRefusal(await machine.run("backup", url, unknown), 1, new RegExp(`${denied}the store does not know this access key`));
    expect(await objects()).toEqual(before);
  });

  test("who may only read can list and restore; init and backup say in one line what is missing, and change nothing", async () => {
    const reader = await restricted(s3, ["s3:GetObject", "s3:ListBucket"]);
    const denied =
      /access to the bucket "backups" is denied: cannot create .*Access Denied.*allow these credentials to list the bucket and to/;
    expectRefusal(await machine.run("init", url, reader), 1, denied);
    expect([existsSync(machine.key), await objects()]).toEqual([false, []]);
    expect((await machine.run("init", url, s3.env)).code).toBe(0);
    const first = await machine.expectBackup(url, s3.env);
    const before = await objects();
    expect(before).not.toEqual([]);
    machine.change();
    expectRefusal(await machine.run("backup", url, reader), 1, denied);
    expect(await objects()).toEqual(before);
    expect(await machine.points(url, reader)).toEqual([first]);
    expect((await machine.run("check", url, reader)).code).toBe(0);
  });

  test("who may write but not delete needs no more than that", async () => {
    const writer = await restricted(s3, ["s3:GetObject", "s3:ListBucket", "s3:PutObject"]);
    expect((await machine.run("init", url, writer)).code).toBe(0);
    const first = await machine.expectBackup(url, writer);
    machine.change();
    expect(await machine.points(url, writer)).toEqual([first]);
    expect(await machine.points(url, writer)).not.toContain(await machine.expectBackup(url, writer));
  });

  test("a bucket whose quota is used up is said to be full; with room the next backup is right", async () => {
    expect((await machine.run("init", url, s3.env)).code).toBe(0);
    const first = await machine.expectBackup(url, s3.env);
    machine.change();
    await setQuota(s3, 4 * MiB);
    try {
      expectRefusal(await machine.run("backup", url, s3.env), 1, /the bucket "backups" is full: cannot create .*quota.*free space/);
    } finally {
      await setQuota(s3, null);
    }
    expect(await machine.points(url, s3.env)).toEqual([first]);
    expect(await machine.points(url, s3.env)).not.toContain(await machine.expectBackup(url, s3.env));
  });

  describe("without conditional writes", () => {
    let proxy: ForgetfulProxy;
    beforeAll(async () => (proxy = await startForgetfulProxy(s3)));
    afterAll(async () => proxy?.stop());

    test("init and backup refuse: two backups could overwrite each other there", async () => {
      const forgetful = url.replace(s3.endpoint, proxy.endpoint);
      const why =
        /accepted two creations of one key, so two backups could overwrite each other\. use a store that honours PUT with If-None-Match/;
      expectRefusal(await machine.run("init", forgetful, s3.env), 1, why);
      expect([existsSync(machine.key), await objects()]).toEqual([false, []]);
      expect((await machine.run("init", url, s3.env)).code).toBe(0);
      expect(await machine.points(forgetful, s3.env)).toEqual([]);
      const before = proxy.dropped();
      for (const again of [1, 2]) {
        expectRefusal(await machine.run("backup", forgetful, s3.env), 1, why);
        expect(proxy.dropped()).toBeGreaterThan(before + again);
      }
      expect((await objects()).filter((name) => /\/(packs|points)\//.test(name))).toEqual([]);
      const first = await machine.expectBackup(url, s3.env);
      expectRefusal(await machine.run("backup", forgetful, s3.env), 1, why);
      expect(await machine.points(forgetful, s3.env)).toEqual([first]);
    });
  });
});

describe.skipIf(skipWithout("host"))("a repository whose last point is damaged", () => {
  test.each([
    ["the machine's next backup", ["--level", "auto"], false],
    ["a full one", ["--level", "full"], false],
    ["the first backup of a clone", ["--vm", "clone"], true],
  ])("%s stores everything, says why, and is right", async (_what, args, same) => {
    const machine = new Machine();
    const dir = join(machine.dir, "repository");
    const flags = ["--repo", `file://${dir}`, "--key-file", machine.key];
    expect((await thinstream(["init", ...flags])).code).toBe(0);
    const first = await machine.expectBackup(`file://${dir}`);
    const packs = readdirSync(join(dir, "packs"), { recursive: true, encoding: "utf8" }).filter((name) => /[0-9a-f]{32}$/.test(name));
    for (const map of packs.filter((name) => !name.endsWith("00000000"))) rmSync(join(dir, "packs", map));
    if (!same) machine.change();
    const result = await thinstream(["backup", ...flags, "--image", machine.image, "--json", ...args]);
    const { point, disks, warnings } = JSON.parse(result.stdout) as BackupJson;
    expect([result.code, disks[0]?.newBytes]).toEqual([3, 8 * MiB]);
    expect(warnings).toEqual([
      expect.stringMatching(/data of earlier backups cannot be read .*packs.*compared with nothing.*thinstream check/),
    ]);
    const output = join(machine.dir, "out");
    expect((await thinstream(["restore", ...flags, "--point", point, "--output", output])).code).toBe(0);
    expect(readFileSync(join(output, "vda.raw")).equals(readFileSync(machine.image))).toBe(true);
    const checked = await thinstream(["check", ...flags, "--json"]);
    expect([checked.code, checked.stdout.includes(first), checked.stdout.includes(point)]).toEqual([1, true, false]);
    expect((await thinstream(["forget", ...flags, "--point", first])).code).toBe(0);
    expect((await thinstream(["check", ...flags])).code).toBe(0);
  });
});

const canMount = process.getuid?.() === 0;
if (!canMount) process.stderr.write("skipped: stores on a full file system: mounting a tmpfs needs root\n");

describe.skipIf(!canMount || skipWithout("s3", "host"))("a store on a file system that is full", () => {
  let machine: Machine;
  let mount: string;
  let ballast: string;
  let s3: S3Lab | undefined;
  beforeEach(async () => {
    machine = new Machine();
    mount = join(machine.dir, "small");
    ballast = join(mount, "ballast");
    mkdirSync(mount);
    await run("mount", ["-t", "tmpfs", "-o", "size=40m", "tmpfs", mount]);
  });
  afterEach(async () => {
    await s3?.stop();
    s3 = undefined;
    await run("umount", [mount]);
  });

  test.each(["directory", "bucket"])("of a %s: one line, no point; with room again the next backup is right", async (kind) => {
    const data = join(mount, "data");
    mkdirSync(data);
    if (kind === "bucket") s3 = await startS3({ dir: data });
    const [url, env] = s3 === undefined ? [`file://${data}`, {}] : [s3.url("repo"), s3.env];
    expect((await machine.run("init", url, env)).code).toBe(0);
    const first = await machine.expectBackup(url, env);
    machine.change();
    writeFileSync(ballast, Buffer.alloc(26 * MiB));
    const why = kind === "bucket" ? /the bucket "backups" is full: / : new RegExp(`the file system of ${data} is full: `);
    const refused = await machine.run("backup", url, env);
    expectRefusal(refused, 1, why);
    // A full store does not get better by asking it again and again.
    expect(refused.stderr).not.toContain("Retrying");
    expect(complaints(refused)[0]).toMatch(/free space .* or raise its quota/);
    expect(await machine.points(url, env)).toEqual([first]);
    if (kind === "directory") expect(readdirSync(join(data, "~tmp"))).toEqual([]);
    rmSync(ballast);
    expect(await machine.points(url, env)).not.toContain(await onceThereIsRoom(() => machine.expectBackup(url, env)));
  });
});

/** An S3 server looks at its disk every few seconds only. */
async function onceThereIsRoom<T>(backup: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await backup();
    } catch (error) {
      if (tries === 30 || !/is full/.test(String(error))) throw error;
      await sleep(1000);
    }
  }
}
