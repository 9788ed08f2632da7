import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { openDomain, repoTag, runBackup } from "../../src/agent/index.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { ObjectStore } from "../../src/objectstore/index.ts";
import { Codec, parseKeyFile, type PointRecord, Repository } from "../../src/repository/index.ts";
import { runRestore } from "../../src/restore/index.ts";
import { type CliResult, thinstream } from "../support/thinstream.ts";
import { type DiskImprint, differenceFrom } from "./disk-model.ts";
import type { SoakVm } from "./soak-vm.ts";

const STEP_PATIENCE_MS = 60_000;

export type AskedLevel = "auto" | "full" | "incremental" | "differential" | "copy";

/** How a process that makes a backup is ended early. */
export interface Ending {
  readonly signal: "SIGKILL" | "SIGTERM";
  /** a step of the protocol, or milliseconds after its start */
  readonly at: string | number;
  /** done while the process waits at the step */
  readonly meanwhile?: () => Promise<void>;
}

/** The repository under test, used both as a library and through the command line. */
export class SoakRepository {
  readonly dir: string;
  readonly flags: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  repository!: Repository;

  constructor(dir: string, url: string, env: NodeJS.ProcessEnv) {
    this.dir = dir;
    this.flags = ["--repo", url, "--key-file", join(dir, "soak.key")];
    this.env = env;
  }

  async init(openStore: () => ObjectStore): Promise<void> {
    await this.cli(["init"]);
    const key = parseKeyFile(readFileSync(join(this.dir, "soak.key"), "utf8"));
    this.repository = await Repository.open({ store: openStore(), key });
  }

  /** A command that must succeed. */
  async cli(args: readonly string[]): Promise<CliResult> {
    const [command = "", ...rest] = args;
    const result = await thinstream([command, ...this.flags, ...rest], { env: this.env });
    if (result.code !== 0 && result.code !== 3) throw new Error(`thinstream ${args.join(" ")}: ${result.stderr}`);
    return result;
  }

  /** A backup in this process, by what the command line calls. */
  async backup(vm: SoakVm, level: AskedLevel, onStep: (step: string) => Promise<void>): Promise<PointRecord> {
    const { signal } = new AbortController();
    const result = await runBackup({
      repository: this.repository,
      vm: { name: vm.name, uuid: vm.uuid },
      open: async ({ bases, committed }) =>
        await openDomain({
          uri: vm.lab.uri,
          domain: vm.name,
          level,
          quiesce: "auto",
          repoTag: repoTag(this.repository, vm.name),
          bases,
          committed,
          signal,
          log: silentLogger,
          onStep,
        }),
      since: null,
      codec: Codec.lz4,
      tool: { name: "soak", version: "0" },
      threshold: null,
      estimate: false,
      signal,
      log: silentLogger,
      onStep,
    });
    if (result.kind !== "committed") throw new Error(`the backup was ${result.kind}`);
    const odd = result.warnings.filter((warning) => !/only crash-consistent/.test(warning));
    if (odd.length > 0) throw new Error(`unexpected warnings: ${odd.join("; ")}`);
    return result.point;
  }

  /** A backup in a process of its own, which a signal may end. */
  async backupProcess(vm: SoakVm, level: AskedLevel, ending?: Ending): Promise<CliResult> {
    const steps = join(this.dir, "steps");
    await rm(steps, { force: true });
    const env = { ...this.env, THINSTREAM_STEPS: steps, ...(typeof ending?.at === "string" ? { THINSTREAM_PAUSE_AT: ending.at } : {}) };
    const args = ["backup", ...this.flags, "--connect", vm.lab.uri, "--domain", vm.name, "--level", level, "--json"];
    let signalled: Promise<void> = Promise.resolve();
    const result = await thinstream(args, {
      env,
      onStart: (child) => {
        if (ending === undefined) return;
        const over = new AbortController();
        child.once("exit", () => over.abort());
        signalled = moment(ending, steps, over.signal).then(() => void child.kill(ending.signal));
      },
    });
    await signalled;
    return result;
  }

  /** Ids of the points there are, newest first. */
  async newest(vm: SoakVm): Promise<PointRecord | undefined> {
    return (await this.repository.catalog.lineage(vm.name, { depth: 1 })).points[0];
  }

  /** Restores a point and compares it. @returns what differs first, or null */
  async difference(id: string, truth: ReadonlyMap<string, DiskImprint>): Promise<string | null> {
    const point = await this.repository.catalog.point(id);
    const output = join(this.dir, "restored");
    const { signal } = new AbortController();
    const request = { disks: [], output, format: "raw" as const, targets: new Map(), force: false, signal };
    try {
      const disks = await runRestore({ repository: this.repository, point, ...request });
      return compareAll(truth, new Map(disks.map(({ name, path }) => [name, path])));
    } finally {
      await rm(output, { recursive: true, force: true });
    }
  }

  /** The same through the command line and a qcow2 image. */
  async differenceByCli(
    id: string,
    truth: ReadonlyMap<string, DiskImprint>,
    toRaw: (path: string) => Promise<string>,
  ): Promise<string | null> {
    const output = join(this.dir, "restored-cli");
    try {
      await this.cli(["restore", "--point", id, "--output", output, "--format", "qcow2"]);
      const paths = new Map<string, string>();
      for (const name of truth.keys()) paths.set(name, await toRaw(join(output, `${name}.qcow2`)));
      return compareAll(truth, paths);
    } finally {
      await rm(output, { recursive: true, force: true });
    }
  }

  /** The hint to the newest point goes; it must cost nothing but a few reads. */
  async loseHead(): Promise<void> {
    const { store } = this.repository;
    for await (const { key } of store.list("heads/")) await store.delete(key);
  }
}

function compareAll(truth: ReadonlyMap<string, DiskImprint>, paths: ReadonlyMap<string, string>): string | null {
  const missing = [...truth.keys()].filter((name) => !paths.has(name));
  const extra = [...paths.keys()].filter((name) => !truth.has(name));
  if (missing.length + extra.length > 0) return `disks: missing ${missing.join(", ") || "none"}, unexpected ${extra.join(", ") || "none"}`;
  for (const [name, path] of paths) {
    const difference = differenceFrom(truth.get(name) as DiskImprint, readFileSync(path));
    if (difference !== null) return `disk ${name}: ${difference}`;
  }
  return null;
}

/** Resolves when the process is to be ended, or has ended by itself. */
async function moment({ at, meanwhile }: Ending, steps: string, over: AbortSignal): Promise<void> {
  if (typeof at === "number") {
    await delay(at, undefined, { signal: over }).catch(() => undefined);
    return;
  }
  const until = Date.now() + STEP_PATIENCE_MS;
  while (!over.aborted && !reached(steps).includes(at)) {
    if (Date.now() > until) return;
    await delay(20);
  }
  if (!over.aborted) await meanwhile?.();
}

function reached(steps: string): string[] {
  try {
    return readFileSync(steps, "utf8").trim().split("\n");
  } catch {
    return []; // it has reached none yet
  }
}
