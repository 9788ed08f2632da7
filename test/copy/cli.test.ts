import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { IndependentReader } from "../independent-reader/reader.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { type BackupJson, type CliResult, thinstream, thinstreamJson } from "../support/thinstream.ts";

const MiB = 1024 * 1024;

interface CopyJson {
  readonly copied: readonly { readonly from: string; readonly to: string }[];
  readonly there: readonly string[];
  readonly readBytes: number;
  readonly uploadedBytes: number;
}

describe.skipIf(skipWithout("s3", "versitygw", "host", "reader"))("thinstream copy", () => {
  const dir = tempDir("copy");
  const [image, steps, credentials] = [join(dir, "web.raw"), join(dir, "steps"), join(dir, "credentials")];
  const key = (name: string): string => join(dir, `${name}.key`);
  const states: Buffer[] = [];
  const points: string[] = [];
  let minio: S3Lab;
  let versity: S3Lab;
  let env: NodeJS.ProcessEnv;
  let from: string;
  const second = `file://${dir}/second`;

  beforeAll(async () => {
    [minio, versity] = [await startS3(), await startS3({ make: "versitygw" })];
    from = minio.url("repository");
    const profile = (name: string, lab: S3Lab): string =>
      `[${name}]\naws_access_key_id = ${lab.accessKeyId}\naws_secret_access_key = ${lab.secretAccessKey}\n`;
    writeFileSync(credentials, profile("site", minio) + profile("offsite", versity));
    env = { ...minio.env, AWS_SHARED_CREDENTIALS_FILE: credentials, AWS_CONFIG_FILE: "/dev/null" };
    const flags = ["--repo", from, "--key-file", key("site")];
    await thinstreamJson(["init", ...flags], { env });
    const disk = Buffer.alloc(20 * MiB);
    for (let i = 0; i < 3; i++) {
      randomBytes(i === 0 ? 6 * MiB : 100_000).copy(disk, 2 * i * MiB + 5000);
      disk.fill(0, i * 65_536, (i + 1) * 65_536);
      writeFileSync(image, disk);
      states.push(Buffer.from(disk));
      points.push((await thinstreamJson<BackupJson>(["backup", ...flags, "--image", image], { env })).point);
    }
    await thinstreamJson(["init", "--repo", second, "--key-file", key("second")]);
  });
  afterAll(async () => {
    await minio.stop();
    await versity.stop();
  });

  const toSecond = (): string[] => [
    "copy",
    "--all",
    "--from",
    from,
    "--from-key-file",
    key("site"),
    "--to",
    second,
    "--to-key-file",
    key("second"),
  ];

  async function expectWhole(repo: readonly string[]): Promise<void> {
    const { points: there } = await thinstreamJson<{ points: { id: string }[] }>(["points", ...repo], { env });
    expect(there.length).toBe(states.length);
    for (const [i, { id }] of there.entries()) {
      const output = join(dir, "restored");
      rmSync(output, { recursive: true, force: true });
      mkdirSync(output);
      await thinstreamJson(["restore", ...repo, "--point", id, "--output", output], { env });
      expect(readFileSync(join(output, "vda.raw")).equals(states[i] as Buffer), `point ${i}`).toBe(true);
    }
    expect(await thinstreamJson(["check", ...repo], { env })).toMatchObject({ ok: true, points: states.length });
  }

  /** Starts a copy, and kills it hard where it has come to a step. */
  async function killedAt(step: string): Promise<CliResult> {
    rmSync(steps, { force: true });
    writeFileSync(steps, "");
    const environment = { ...env, THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: step };
    let kill = (): void => undefined;
    const running = thinstream([...toSecond(), "--json"], {
      env: environment,
      onStart: (child) => (kill = () => void child.kill("SIGKILL")),
    });
    const ended = new AbortController();
    void running.then(() => ended.abort());
    while (!ended.signal.aborted && !readFileSync(steps, "utf8").split("\n").includes(step)) await sleep(20);
    kill();
    return await running;
  }

  test("is killed midway, goes on, and brings every point bit for bit under another key", async () => {
    for (const step of ["opened", "disks-written", "packs-stored", "committed"]) {
      const { code, signal } = await killedAt(step);
      expect([step, code, signal]).toEqual([step, null, "SIGKILL"]);
    }
    rmSync(steps, { force: true });
    // The kill at `committed` left the first point.
    const done = await thinstreamJson<CopyJson>(toSecond(), { env });
    expect([done.copied.map((point) => point.from), done.there]).toEqual([points.slice(1), points.slice(0, 1)]);
    // Two granules and a bit were written, one emptied.
    expect(done.readBytes).toBeLessThanOrEqual(2 * 4 * 65_536);
    await expectWhole(["--repo", second, "--key-file", key("second")]);
  });

  test("makes what the independent reader understands", async () => {
    const reader = new IndependentReader(join(dir, "second"), key("second"));
    const there = await reader.points();
    expect(there.length).toBe(3);
    for (const [i, { id, disks }] of there.entries())
      expect((await reader.disk(id, disks[0] ?? "")).equals(states[i] as Buffer)).toBe(true);
  });

  test("brings nothing the second time", async () => {
    const again = await thinstreamJson<CopyJson>(toSecond(), { env });
    expect(again).toMatchObject({ copied: [], there: points, readBytes: 0, uploadedBytes: 0 });
    const said = await thinstream(toSecond(), { env });
    expect([said.code, said.stdout]).toEqual([0, "Nothing was copied\nThere already: 3\n"]);
  });

  test("goes back into a bucket of another provider, with credentials of its own", async () => {
    const third = versity.url("repository");
    const flags = ["--repo", third, "--key-file", key("third")];
    await thinstreamJson(["init", ...flags], { env: { ...versity.env } });
    const back = ["copy", "--vm", "web", "--from", second, "--from-key-file", key("second"), "--to", third, "--to-key-file", key("third")];
    const denied = await thinstream([...back, "--to-profile", "site"], { env });
    expect([denied.code, denied.stdout]).toEqual([1, ""]);
    expect((await thinstreamJson<CopyJson>([...back, "--to-profile", "offsite"], { env })).copied.length).toBe(3);
    // The originals, copied to where their copies' copies are.
    const straight = ["copy", ...points, "--from", from, "--from-key-file", key("site"), "--from-profile", "site", "--to", third];
    const { there, copied } = await thinstreamJson<CopyJson>([...straight, "--to-key-file", key("third"), "--to-profile", "offsite"], {
      env,
    });
    expect([there, copied]).toEqual([points, []]);
    env = { ...versity.env };
    await expectWhole(flags);
    const { points: made } = await thinstreamJson<{ points: { id: string; time: string }[] }>(["points", ...flags], { env });
    const shown = await thinstream(["show", ...flags, made[2]?.id ?? ""], { env });
    expect(shown.stdout).toContain(`Copied from  ${points[2]} of the repository `);
  });

  test("refuses what makes no sense, in a sentence", async () => {
    const both = ["--from", second, "--from-key-file", key("second"), "--to", second, "--to-key-file", key("second")];
    expect((await thinstream(["copy", ...both])).code).toBe(2);
    expect((await thinstream(["copy", "--all", "--vm", "web", ...both])).code).toBe(2);
    const same = await thinstream(["copy", "--all", ...both]);
    expect([same.code, same.stderr]).toEqual([1, expect.stringContaining("are the same repository")]);
    const nobody = await thinstream([
      "copy",
      "--vm",
      "nobody",
      ...both.slice(0, 4),
      "--to",
      `file://${dir}/none`,
      "--to-key-file",
      key("second"),
    ]);
    expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining("There is no repository at")]);
  });
});
