import { basename, extname, resolve } from "node:path";

import {
  type BackupResult,
  type DiskEstimate,
  domainMachine,
  imageMachine,
  type Level,
  type Machine,
  runBackup,
} from "../../agent/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { Codec, type PointRecord } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { ProgressDisplay } from "../progress.ts";
import { stepHook } from "../step-hook.ts";
import { table } from "../table.ts";
import { UsageError } from "../usage-error.ts";

export interface BackupFlags extends RepositoryFlags {
  readonly connect?: string;
  readonly domain?: string;
  /** `[disk=]path` */
  readonly image?: readonly string[];
  readonly imageFormat?: "qcow2" | "raw";
  readonly vm?: string;
  readonly level: "auto" | Level;
  readonly since?: string;
  readonly disk?: readonly string[];
  readonly excludeDisk?: readonly string[];
  readonly quiesce: "auto" | "required" | "never";
  readonly freezeMountpoint?: readonly string[];
  readonly scratchDir?: string;
  readonly compression: "lz4" | "zstd" | "none";
  readonly estimate?: boolean;
  /** bytes */
  readonly threshold?: number;
}

/** `thinstream backup`: one restore point, or nothing. */
export async function backup(flags: BackupFlags, context: Context): Promise<Outcome> {
  requireSense(flags);
  return await withRepository(flags, context, async (repository) => {
    const machine = flags.image === undefined ? await namedDomain(flags, context) : namedImages(flags, context);
    const display = new ProgressDisplay(`Backing up ${machine.name}`);
    const result = await runBackup({
      repository,
      vm: machine,
      open: async (standing) => await machine.open(standing, repository),
      since: flags.since ?? null,
      codec: Codec[flags.compression],
      tool: { name: "thinstream", version: context.version },
      threshold: flags.threshold ?? null,
      estimate: flags.estimate === true,
      signal: context.signal,
      log: context.log,
      onStep: stepHook(context.signal),
      onProgress: ({ doneBytes, totalBytes, readBytes }) => display.update({ done: doneBytes, total: totalBytes, bytes: readBytes }),
    }).finally(() => display.end());
    return result.kind === "committed" ? committed(result.point, result.warnings) : notStored(result);
  });
}

function requireSense(flags: BackupFlags): void {
  if (flags.image !== undefined) {
    const stray = (["connect", "domain", "scratchDir", "freezeMountpoint"] as const).find((name) => flags[name] !== undefined);
    if (stray !== undefined)
      throw new UsageError(
        `--image is for a disk without libvirt: it does not go with --${stray.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      );
    return;
  }
  if (flags.connect === undefined || flags.domain === undefined) {
    throw new UsageError("There is nothing to back up", { hint: "Give --connect URI and --domain NAME, or --image PATH" });
  }
  if (flags.since !== undefined && !["incremental", "differential"].includes(flags.level))
    throw new UsageError("--since goes with --level incremental or differential");
}

async function namedDomain(flags: BackupFlags, { signal, log }: Context): Promise<Machine> {
  return await domainMachine({
    uri: flags.connect ?? "",
    domain: flags.domain ?? "",
    level: flags.level,
    quiesce: flags.estimate === true ? "never" : flags.quiesce,
    signal,
    log,
    onStep: stepHook(signal),
    ...defined({
      name: flags.vm,
      disks: flags.disk,
      excludeDisks: flags.excludeDisk,
      freezeMountpoints: flags.freezeMountpoint,
      scratchDir: flags.scratchDir,
    }),
  });
}

function namedImages(flags: BackupFlags, { signal, log }: Context): Machine {
  const images = parseImages(flags.image ?? []).filter(
    ({ name }) => (flags.disk?.includes(name) ?? true) && flags.excludeDisk?.includes(name) !== true,
  );
  const [first] = images;
  if (first === undefined) throw new UsageError("No image is left to back up");
  return imageMachine({
    name: flags.vm ?? basename(first.path, extname(first.path)),
    uuid: null,
    images: images.map((image) => ({ ...image, ...defined({ format: flags.imageFormat }) })),
    key: resolve(first.path),
    level: flags.level,
    signal,
    log,
    onStep: stepHook(signal),
  });
}

/** Disks are called vda, vdb, … in the order given where they have no name of their own. */
function parseImages(given: readonly string[]): { readonly name: string; readonly path: string }[] {
  const images = given.map((one, i) => {
    const [, name, path] = /^(?:([A-Za-z0-9._-]+)=)?(.+)$/s.exec(one) ?? [];
    return { name: name ?? `vd${String.fromCodePoint(97 + i)}`, path: path ?? one };
  });
  const twice = images.find(({ name }, i) => images.findIndex((other) => other.name === name) !== i);
  if (twice !== undefined) throw new UsageError(`--image names the disk ${twice.name} twice`);
  return images;
}

function committed(point: PointRecord, warnings: readonly string[]): Outcome {
  const disks = point.disks.map(({ name, level, reason, stats }) => ({ name, level, ...stats, reason }));
  const rows = disks.map((disk) => [
    disk.name,
    disk.level,
    ...[disk.dirtyBytes, disk.zeroBytes, disk.readBytes, disk.uploadedBytes].map((bytes) => formatBytes(bytes)),
    disk.reason,
  ]);
  const lines = [
    `Restore point ${point.id} of ${point.vm.name} (${point.level}, ${point.consistency}-consistent)`,
    table(["DISK", "LEVEL", "DIRTY", "ZERO", "READ", "UPLOADED", "REASON"], rows),
    ...disks.filter(({ compactedBytes }) => compactedBytes > 0).map(compactedLine),
    ...warnings.map((warning) => `Warning: ${warning}`),
  ];
  const json = { point: point.id, time: point.time, level: point.level, disks, consistency: point.consistency, warnings };
  return { json, text: lines.join("\n"), exitCode: warnings.length > 0 ? ExitCode.warnings : ExitCode.ok };
}

function compactedLine({ name, compactedBytes }: { readonly name: string; readonly compactedBytes: number }): string {
  return `Of ${name}, ${formatBytes(compactedBytes)} that had not changed were stored again, so that packs of which little is needed can go`;
}

function notStored(result: Exclude<BackupResult, { kind: "committed" }>): Outcome {
  const total = result.disks.reduce((sum, { dirtyBytes }) => sum + dirtyBytes, 0);
  const said =
    result.kind === "estimated"
      ? `A backup now would look at ${formatBytes(total)}`
      : `Nothing stored: only ${formatBytes(total)} changed, less than the threshold`;
  const rows = result.disks.map(({ name, level, dirtyBytes, zeroBytes, reason }: DiskEstimate) => [
    name,
    level,
    formatBytes(dirtyBytes),
    formatBytes(zeroBytes),
    reason,
  ]);
  const { kind, disks, consistency, warnings } = result;
  return {
    json: { point: null, [kind === "estimated" ? "estimate" : "skipped"]: true, disks, consistency, warnings },
    text: `${said}\n${table(["DISK", "LEVEL", "DIRTY", "ZERO", "REASON"], rows)}`,
    exitCode: ExitCode.ok,
  };
}

/** Without the members that are undefined. */
function defined<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
