import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Flavour, type LibvirtLab, type S3Lab, startLibvirt, startS3, tempDir } from "../lab/index.ts";
import { type CliOptions, type CliResult, thinstream, thinstreamJson } from "../support/thinstream.ts";

export const MiB: number = 2 ** 20;

/** A repository as the command line names it. */
export interface Repo {
  readonly url: string;
  readonly keyFile: string;
  /** `--repo … --key-file …` */
  readonly flags: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Where its objects lie; empty for a bucket. */
  readonly dir: string;
}

export interface CheckJson {
  readonly ok: boolean;
  readonly findings: readonly { readonly what: string; readonly reason: string; readonly points: readonly string[] }[];
}

export interface PointsJson {
  readonly points: readonly {
    readonly id: string;
    readonly vm: string;
    readonly time: string;
    readonly level: string;
    readonly consistency: string;
    readonly disks: readonly { readonly name: string; readonly size: number; readonly level: string }[];
  }[];
}

/** One libvirt, directories for what tests write, and repositories; everything of it is told apart from other labs by its paths. */
export class World {
  readonly lab: LibvirtLab;
  /** References, outputs, keys and repositories. */
  readonly dir: string;
  /** The default scratch directory is shared with everything else on the host; this one is the test's own. */
  readonly scratch: string;
  repo!: Repo;
  readonly #stops: (() => Promise<void>)[] = [];
  #outputs = 0;

  private constructor(lab: LibvirtLab) {
    this.lab = lab;
    this.dir = tempDir("acc");
    this.scratch = join(this.dir, "scratch");
    for (const sub of ["scratch", "tmp"]) mkdirSync(join(this.dir, sub));
    this.#stops.push(() => lab.stop());
  }

  /** With an encrypted repository in a directory. */
  static async start(flavour: Flavour): Promise<World> {
    const world = new World(await startLibvirt(flavour));
    world.repo = await world.fileRepo("repo");
    return world;
  }

  async fileRepo(name: string): Promise<Repo> {
    const dir = join(this.dir, name);
    const repo = this.#repo(`file://${dir}`, name, { dir, env: {} });
    await thinstreamJson(["init", ...repo.flags], { env: repo.env });
    return repo;
  }

  /** @param given a server that is there already, whoever started it stops it */
  async s3Repo(prefix: string, given?: S3Lab): Promise<Repo> {
    const s3 = given ?? (await startS3());
    if (given === undefined) this.#stops.push(() => s3.stop());
    const repo = this.#repo(s3.url(prefix), prefix, { dir: "", env: s3.env });
    await thinstreamJson(["init", ...repo.flags], { env: repo.env });
    return repo;
  }

  #repo(url: string, name: string, { dir, env }: { dir: string; env: NodeJS.ProcessEnv }): Repo {
    const keyFile = join(this.dir, `${name}.key`);
    return {
      url,
      keyFile,
      dir,
      flags: ["--repo", url, "--key-file", keyFile],
      env: { ...env, TMPDIR: join(this.dir, "tmp"), NODE_COMPILE_CACHE: join(tmpdir(), "node-compile-cache") },
    };
  }

  /** A path for an output that is not there yet. */
  output(what: string = "out"): string {
    this.#outputs += 1;
    return join(this.dir, `${what}-${this.#outputs}`);
  }

  /** A command on the default repository, or another. */
  run(
    command: string,
    args: readonly string[] = [],
    { repo = this.repo, ...options }: CliOptions & { repo?: Repo } = {},
  ): Promise<CliResult> {
    return thinstream([command, ...repo.flags, ...args], { ...options, env: { ...repo.env, ...options.env } });
  }

  json<T>(command: string, args: readonly string[] = [], repo: Repo = this.repo): Promise<T> {
    return thinstreamJson<T>([command, ...repo.flags, ...args], { env: repo.env });
  }

  async points(repo: Repo = this.repo): Promise<PointsJson["points"]> {
    return (await this.json<PointsJson>("points", [], repo)).points;
  }

  /** Reads everything and fails where anything is missing or damaged. */
  async expectClean(repo: Repo = this.repo): Promise<void> {
    const checked = await this.run("check", ["--json"], { repo });
    assert.equal(checked.code, 0, checked.stdout + checked.stderr);
    assert.equal((JSON.parse(checked.stdout) as CheckJson).ok, true);
  }

  /** Our processes that have to do with this world, as command lines. */
  processes(): string[] {
    const found: string[] = [];
    for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      let line;
      try {
        line = readFileSync(`/proc/${entry}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        continue; // ended while we looked
      }
      const ours = /qemu-nbd|qemu-img|cli\/main\.ts/.test(line);
      if (ours && [this.dir, this.lab.dir].some((dir) => line.includes(dir))) found.push(`${entry} ${line}`);
    }
    return found;
  }

  /** What runs of ours left on the host for the machine of these keys: processes, directories, sockets, scratch and temporary files. */
  hostLeftovers(...machines: readonly string[]): string[] {
    const dirs = readdirSync("/var/tmp").filter((name) => name.startsWith("ts-") && machines.includes(machineOf(join("/var/tmp", name))));
    return [...this.processes(), ...dirs, ...readdirSync(this.scratch), ...readdirSync(join(this.dir, "tmp"))];
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.toReversed()) await stop();
  }
}

function machineOf(runDir: string): string {
  try {
    return (JSON.parse(readFileSync(join(runDir, "job.json"), "utf8")) as { readonly machine: string }).machine;
  } catch {
    return ""; // another test's, just being made or removed
  }
}

export function uniqueName(stem: string): string {
  return `${stem}-${randomBytes(3).toString("hex")}`;
}

/** What stands on standard error, as lines; the logger's are JSON and begin with a brace. */
export function complaints(result: CliResult): string[] {
  return result.stderr.split("\n").filter((line) => line !== "" && !line.startsWith("{"));
}

/** Fails unless the command ended with this code and said why in one line. */
export function expectRefusal(result: CliResult, code: 1 | 2, why: RegExp): void {
  const lines = complaints(result);
  assert.equal(result.code, code, `exit ${result.code}, expected ${code}: ${result.stderr}${result.stdout}`);
  assert.equal(lines.length, 1, `not one line: ${result.stderr}`);
  assert.match(lines[0] ?? "", why);
  assert.match(lines[0] ?? "", /^thinstream: /);
}
