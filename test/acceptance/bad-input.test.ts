import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createImage, run, type S3Lab, skipWithout, startS3 } from "../lab/index.ts";
import { type BackupJson, type CliResult, thinstream } from "../support/thinstream.ts";
import { levels, Vm } from "./vm.ts";
import { complaints, expectRefusal, MiB, World } from "./world.ts";

const skipped = skipWithout("host");

describe.skipIf(skipped)("bad input", () => {
  let world: World;
  let vm: Vm;
  let state: string;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "32M" } });
    await vm.write("vda", "write -P 1 0 4M");
    await vm.take();
    state = await everything();
  });
  afterAll(async () => world?.stop());

  /** Every object, checkpoint and leftover: what bad input must not change. */
  async function everything(): Promise<string> {
    const names = readdirSync(world.repo.dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    return JSON.stringify([names.map(({ name }) => name).toSorted(), await vm.checkpoints(), await vm.leftovers()]);
  }

  test("argument typos: exit 2", async () => {
    const repo = world.repo.flags;
    for (const [args, why] of [
      [["backpu"], /unknown command 'backpu'/],
      [["backup", ...repo, "--domian", "x"], /unknown option '--domian'/],
      [["backup", ...repo, ...vm.flags(["--level", "ful"])], /Allowed choices are auto, full/],
      [["backup", ...repo], /nothing to back up.*--connect URI/],
      [["backup", ...repo, ...vm.flags(["--threshold", "lots"])], /threshold/],
      [["backup", ...repo, ...vm.flags(["extra"])], /too many arguments/],
      [["backup", ...repo, ...vm.flags(["--since", vm.taken[0]!.backup.point])], /--since goes with/],
      [["backup", ...repo, "--image", vm.path(), "--domain", vm.name], /--image.*--domain/],
      [["restore", ...repo, "--output", world.output()], /required option '--point/],
      [["restore", ...repo, "--point", "latest"], /nowhere to restore to/],
      [["restore", ...repo, "--point", "latest", "--target", "vda"], /not DISK=PATH/],
      [["restore", ...repo, "--point", "latest", "--output", world.output(), "--define"], /--define needs --connect/],
      [["points", "--repo", "ftp://x/y"], /neither file:.* nor s3:/],
      [["points", "--repo", "s3://"], /s3/],
      [["points"], /required option '--repo/],
    ] as const) {
      expectRefusal(await thinstream(args), 2, why);
    }
    expect(await everything()).toBe(state);
  });

  test("unknown domain, disk, libvirt; a hypervisor that has no backup", async () => {
    const flags = [...world.repo.flags, "--scratch-dir", world.scratch];
    const at = (uri: string, ...more: string[]): string[] => ["backup", ...flags, "--connect", uri, ...more];
    expectRefusal(await thinstream(at(world.lab.uri, "--domain", "nonesuch")), 1, /no domain.*nonesuch/i);
    expectRefusal(await thinstream(at(world.lab.uri, "--domain", vm.name, "--disk", "vdz")), 1, /no disk.*vdz.*vda/i);
    expectRefusal(await thinstream(at("qemu:///system?socket=/nonexistent/sock", "--domain", vm.name)), 1, /libvirt/);
    expectRefusal(await thinstream(at("gibberish", "--domain", vm.name)), 1, /gibberish|URI/i);
    expectRefusal(await thinstream(at(world.lab.uri, "--domain", vm.name, "--quiesce", "required")), 1, /could not be frozen/);
    const other = /machines at test:\/\/\/default run under TEST, not QEMU.*needs libvirt 7\.2 and QEMU 4\.2 or newer/;
    expectRefusal(await thinstream(at("test:///default", "--domain", "test")), 1, other);
    expectRefusal(await thinstream(at("test:///default", "--domain", "test", "--estimate", "--level", "copy")), 1, other);
    expectRefusal(await vm.backup(["--level", "differential", "--since", "0123456789ab-77"]), 1, /no restore point 0123456789ab-77/);
    expect(await everything()).toBe(state);
  });

  test("image: not there, a directory, in use", async () => {
    const image = (path: string): Promise<CliResult> => thinstream(["backup", ...world.repo.flags, "--image", path]);
    expectRefusal(await image(join(world.dir, "none.qcow2")), 1, /none.qcow2 does not exist/);
    expectRefusal(await image(world.dir), 1, /cannot be|directory/i);
    expectRefusal(await image(vm.path()), 1, /in use by a running machine.*--domain/);
    expect(await everything()).toBe(state);
  });

  test("point: unknown, malformed, of another machine, and no point at all", async () => {
    const restore = (...args: string[]): Promise<CliResult> =>
      thinstream(["restore", ...world.repo.flags, "--output", world.output(), ...args]);
    expectRefusal(await restore("--point", "0123456789ab-1"), 1, /no restore point 0123456789ab-1/);
    for (const id of ["../../etc/passwd", "x", "-1", `${vm.taken[0]!.backup.point}0`, "0123456789ab-0"]) {
      const result = await restore(`--point=${id}`);
      expectRefusal(result, 1, /no restore point/);
    }
    expectRefusal(await restore("--point", "latest", "--vm", "nonesuch"), 1, /no restore point of nonesuch/);
    expectRefusal(await restore("--point", "latest", "--disk", "vdq"), 1, /no disk vdq.*vda/);
    expectRefusal(await thinstream(["forget", ...world.repo.flags, "--point", "0123456789ab-1"]), 1, /no restore point/);
    expectRefusal(await thinstream(["show", ...world.repo.flags, "0123456789ab-1"]), 1, /no restore point/);
    expect(await everything()).toBe(state);
  });

  test("repository: none there, of a newer format, changed; key: wrong, missing, for one without encryption, broken", async () => {
    const at = (url: string, keyFile?: string): Promise<CliResult> =>
      thinstream(["points", "--repo", url, ...(keyFile === undefined ? [] : ["--key-file", keyFile])]);
    const { keyFile, url } = world.repo;
    expectRefusal(await at(`file://${world.dir}/nowhere`, keyFile), 1, /no repository at.*nowhere.*init/);
    expect(existsSync(join(world.dir, "nowhere"))).toBe(false);
    expectRefusal(await at(url), 1, /key/);
    expectRefusal(await at(url, join(world.dir, "none.key")), 2, /none.key.*cannot be read/);
    const other = await world.fileRepo("other");
    expectRefusal(await at(url, other.keyFile), 1, /not the repository's/);
    const broken = join(world.dir, "broken.key");
    writeFileSync(
      broken,
      readFileSync(keyFile, "utf8").replace(/ (.)/, (_all, digit: string) => ` ${digit === "0" ? "1" : "0"}`),
      { mode: 0o600 },
    );
    expectRefusal(await at(url, broken), 1, /typing error/);
    const plain = `file://${world.dir}/plain`;
    expect((await thinstream(["init", "--repo", plain, "--no-encryption"])).code).toBe(0);
    expectRefusal(await at(plain, keyFile), 1, /not encrypted/);
    expectRefusal(await thinstream(["init", ...world.repo.flags]), 1, /repository at.*already/);
    expectRefusal(await thinstream(["init", "--repo", `file://${world.dir}/third`]), 2, /needs a key/);
    const config = join(other.dir, "config");
    const text = readFileSync(config, "utf8");
    writeFileSync(config, text.replace(/"version": *1/, '"version": 2'));
    expectRefusal(await at(other.url, other.keyFile), 1, /format 2.*knows format 1/);
    writeFileSync(config, text.replace(/"created": *"2/, '"created": "3'));
    expectRefusal(await at(other.url, other.keyFile), 1, /was changed/);
    expect(await everything()).toBe(state);
  });

  test("target: exists, too small, a directory, gone", async () => {
    const output = world.output();
    mkdirSync(output);
    const there = join(output, "vda.raw");
    writeFileSync(there, "precious");
    const restore = (...args: string[]): Promise<CliResult> => thinstream(["restore", ...world.repo.flags, "--point", "latest", ...args]);
    expectRefusal(await restore("--output", output), 1, /vda.raw exists already/);
    expect(readFileSync(there, "utf8")).toBe("precious");
    expect(readdirSync(output)).toEqual(["vda.raw"]);
    truncateSync(there, 16 * MiB);
    expectRefusal(await restore("--target", `vda=${there}`), 1, /16777216 bytes.*needs 33554432/);
    expect(readFileSync(there).subarray(0, 8).toString()).toBe("precious");
    expectRefusal(await restore("--target", `vda=${output}`), 1, /neither a file nor a block device/);
    expectRefusal(await restore("--target", `vda=${output}/none`), 1, /none does not exist/);
    expectRefusal(await restore("--output", join(there, "below")), 1, /vda.raw/);
    const bigger = await createImage(join(output, "bigger.raw"), { size: "48M", format: "raw" });
    await run("qemu-io", ["-f", "raw", "-c", "write -P 0xff 0 48M", bigger]);
    expect((await restore("--target", `vda=${bigger}`)).code).toBe(0);
    expect(statSync(bigger).size).toBe(48 * MiB);
    const reference = readFileSync([...vm.taken[0]!.references.values()][0]!);
    expect(
      readFileSync(bigger)
        .subarray(0, 32 * MiB)
        .equals(reference),
    ).toBe(true);
    expect(await everything()).toBe(state);
  });

  test("no room: for the output, for scratch, in the repository", async () => {
    const small = join(world.dir, "small");
    mkdirSync(small);
    await run("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", small]);
    try {
      for (const format of ["raw", "qcow2"]) {
        const restored = await thinstream(
          ["restore", ...world.repo.flags, "--point", "latest", "--output", join(small, format), "--format", format],
          { env: world.repo.env },
        );
        expectRefusal(restored, 1, /no space left/i);
        expect(readdirSync(join(small, format))).toEqual([]);
      }
      rmSync(join(small, "raw"), { recursive: true });
      rmSync(join(small, "qcow2"), { recursive: true });
      expectRefusal(
        await thinstream(["backup", ...world.repo.flags, "--connect", world.lab.uri, "--domain", vm.name, "--scratch-dir", small]),
        1,
        /scratch directory.*left/,
      );
      expect(readdirSync(small)).toEqual([]);
      const repo = ["--repo", `file://${small}/repo`, "--key-file", world.repo.keyFile];
      expect((await thinstream(["init", ...repo])).code).toBe(0);
      const source = await createImage(join(world.dir, "noise.raw"), { size: "8M", format: "raw" });
      writeFileSync(source, randomBytes(8 * MiB));
      expectRefusal(await thinstream(["backup", ...repo, "--image", source]), 1, /the file system of .*small.repo is full: .*free space/);
      const { points } = JSON.parse((await thinstream(["points", ...repo, "--json"])).stdout) as { points: unknown[] };
      expect(points).toEqual([]);
      expect(world.hostLeftovers(source)).toEqual([]);
    } finally {
      await run("umount", [small]);
    }
    expect(await everything()).toBe(state);
  });

  test("clocks that jump: each point stands on the one before, and they are listed in the order they were taken", async () => {
    const repo = await world.fileRepo("clock");
    const other = await Vm.start(world, { vda: { size: "16M" } });
    for (const [i, days] of [400, -400, 0].entries()) {
      const preload = join(world.dir, `clock-${i}.mjs`);
      const shift = `${days} * 86400000`;
      writeFileSync(
        preload,
        `const True = Date, shift = ${shift};
globalThis.Date = class extends True { constructor(...a) { super(...(a.length === 0 ? [True.now() + shift] : a)); } static now() { return True.now() + shift; } };`,
      );
      await other.write("vda", `write -P ${i + 1} ${i}M 64k`);
      const references = await other.references();
      const result = await world.run("backup", other.flags(["--json"]), { repo, env: { NODE_OPTIONS: `--import=file://${preload}` } });
      expect([result.code, complaints(result)]).toEqual([0, []]);
      other.add({ backup: JSON.parse(result.stdout) as BackupJson, references, repo });
    }
    expect(other.taken.map((taken) => levels(taken)["vda"])).toEqual(["full", "incremental", "incremental"]);
    const points = await world.points(repo);
    expect(points.map(({ id }) => id)).toEqual(other.taken.map(({ backup }) => backup.point));
    await other.expectRestores();
    await other.expectTidy();
  });

  describe.skipIf(skipWithout("s3"))("of a bucket", () => {
    let s3: S3Lab;
    beforeAll(async () => (s3 = await startS3()));
    afterAll(async () => s3?.stop());

    test("missing bucket, wrong key, no credentials, nobody there", async () => {
      const at = (url: string, env: NodeJS.ProcessEnv): Promise<CliResult> =>
        thinstream(["init", "--repo", url, "--key-file", join(world.dir, "s3.key")], {
          env: { AWS_EC2_METADATA_DISABLED: "true", ...env },
        });
      const missing = s3.url("x").replace("s3://backups/", "s3://nonesuch/");
      expectRefusal(await at(missing, s3.env), 1, /bucket "nonesuch" does not exist at .*create the bucket/);
      expectRefusal(
        await at(s3.url("x"), { ...s3.env, AWS_SECRET_ACCESS_KEY: "wrong-secret-of-the-test" }),
        1,
        /denied|credentials|signature/i,
      );
      expectRefusal(await at(s3.url("x"), { ...s3.env, AWS_ACCESS_KEY_ID: "nobody" }), 1, /denied|credentials|access key/i);
      const none = { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined, AWS_PROFILE: "nonesuch", HOME: world.dir };
      expectRefusal(await at(s3.url("x"), none), 1, /credentials/i);
      expect(existsSync(join(world.dir, "s3.key"))).toBe(false);
      const nobody = await at("s3://backups/x?endpoint=http://127.0.0.1:9&region=us-east-1", s3.env);
      expect([nobody.code, complaints(nobody)]).toEqual([1, [expect.stringMatching(/127\.0\.0\.1:9/)]]);
    });
  });
});
