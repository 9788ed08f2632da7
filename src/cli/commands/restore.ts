import { rfc3339 } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import type { DomainPoint, PointRecord } from "../../repository/index.ts";
import { type Domains, RepositoryError, type UnreadablePoint } from "../../repository/index.ts";
import {
  type DefinedDomain,
  defineRestored,
  type ImageFormat,
  requireDefinable,
  type RestoredDisk,
  runRestore,
} from "../../restore/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withDomains } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { ProgressDisplay } from "../progress.ts";
import { table } from "../table.ts";
import { UsageError } from "../usage-error.ts";

export interface RestoreFlags extends RepositoryFlags {
  readonly point: string;
  readonly vm?: string;
  readonly output?: string;
  readonly format: ImageFormat;
  readonly disk?: readonly string[];
  /** `disk=path` */
  readonly target?: readonly string[];
  readonly force?: boolean;
  readonly define?: boolean;
  readonly connect?: string;
  readonly name?: string;
}

/** `thinstream restore`: the disks of one point, and the domain if asked. */
export async function restore(flags: RestoreFlags, context: Context): Promise<Outcome> {
  const targets = parseTargets(flags.target ?? []);
  requireSense(flags, targets);
  return await withDomains(flags, context, async (domains) => {
    const { point, domain: repository } = await findPoint(domains, flags, context.signal);
    const copy = { repository, point, uri: flags.connect ?? "", name: flags.name ?? null, signal: context.signal };
    if (flags.define === true) await requireDefinable(copy);
    const display = new ProgressDisplay(`Restoring ${point.vm.name}`);
    const disks = await runRestore({
      repository,
      point,
      disks: flags.disk ?? [],
      output: flags.output ?? null,
      format: flags.format,
      targets,
      force: flags.force === true,
      signal: context.signal,
      onProgress: ({ doneBytes, totalBytes, writtenBytes }) => display.update({ done: doneBytes, total: totalBytes, bytes: writtenBytes }),
    }).finally(() => display.end());
    const damaged = disks.some((disk) => disk.damaged.length > 0);
    const defined = flags.define === true && !damaged ? await defineRestored({ ...copy, disks, directory: flags.output ?? "" }) : null;
    return outcome(point, disks, defined);
  });
}

function outcome(point: PointRecord, disks: readonly RestoredDisk[], domain: DefinedDomain | null): Outcome {
  const damaged = disks.flatMap((disk) =>
    disk.damaged.map((range) => `${disk.name}: ${range.length} bytes from ${range.offset} are lost (${range.reason}); they are zeros now`),
  );
  const rows = disks.map(({ name, path, format, size, writtenBytes }) => [
    name,
    path,
    format,
    formatBytes(size),
    formatBytes(writtenBytes),
  ]);
  const lines = [
    `Restored ${point.vm.name} as it was at ${rfc3339(point.time)} (${point.id})`,
    table(["DISK", "PATH", "FORMAT", "SIZE", "WRITTEN"], rows),
    ...damaged,
  ];
  if (domain !== null) lines.push(`Defined the domain ${domain.name} (${domain.uuid})`, ...domain.warnings);
  const warnings = domain?.warnings ?? [];
  const exitCode = damaged.length > 0 ? ExitCode.failed : warnings.length > 0 ? ExitCode.warnings : ExitCode.ok;
  return {
    json: { point: point.id, time: point.time, disks, domain, warnings: [...damaged, ...warnings] },
    text: lines.join("\n"),
    exitCode,
  };
}

async function findPoint(domains: Domains, flags: RestoreFlags, signal: AbortSignal): Promise<DomainPoint> {
  if (flags.point === "latest") return await latestPoint(domains, flags, signal);
  const domain = await domains.holding(flags.point, signal);
  const point = await domain.catalog.point(flags.point, signal);
  if (flags.vm !== undefined && flags.vm !== point.vm.name)
    throw new UsageError(`The restore point ${point.id} is of ${point.vm.name}, not of ${flags.vm}`);
  return { point, domain };
}

async function latestPoint(domains: Domains, flags: RestoreFlags, signal: AbortSignal): Promise<DomainPoint> {
  const { points, unreadable } = await domains.list({ signal, ...(flags.vm === undefined ? {} : { vm: flags.vm }) });
  const vms = [...new Set(points.map(({ point }) => point.vm.name))];
  if (vms.length > 1)
    throw new UsageError(`The repository has points of ${vms.length} machines`, {
      hint: `Say which with --vm: ${vms.slice(0, 10).join(", ")}`,
    });
  const names = [...new Set(points.map(({ domain }) => domain.label))];
  if (names.length > 1)
    throw new UsageError(`There are machines of that name in ${names.length} domains`, {
      hint: `Say which with --key-domain: ${names.slice(0, 10).join(", ")}`,
    });
  const latest = points.at(-1);
  requireLatest(latest?.point ?? null, unreadable);
  if (latest === undefined)
    throw new RepositoryError(
      "point-unknown",
      `There is no restore point${flags.vm === undefined ? "" : ` of ${flags.vm}`} in the repository`,
    );
  return latest;
}

/** Who asks for the latest is not given an older one because the latest is damaged. */
function requireLatest(latest: PointRecord | null, unreadable: readonly UnreadablePoint[]): void {
  const lost = unreadable.findLast(({ id }) => {
    const [, vmId, seq] = /^([0-9a-f]{12})-(\d+)$/.exec(id) ?? [];
    return vmId !== undefined && (latest?.id.startsWith(`${vmId}-`) !== true || Number(seq) > latest.seq);
  });
  if (lost === undefined) return;
  throw new RepositoryError(
    "point-damaged",
    `The latest may be the restore point ${lost.id}, which cannot be read: ${lost.error.message}`,
    {
      cause: lost.error,
      hint:
        latest === null
          ? "`thinstream check` lists all damage and the points it touches"
          : `The latest that can be read is ${latest.id} of ${rfc3339(latest.time)}: to restore that, say --point ${latest.id}`,
    },
  );
}

function parseTargets(given: readonly string[]): Map<string, string> {
  const targets = new Map<string, string>();
  for (const one of given) {
    const [, disk, path] = /^([^=/]+)=(.+)$/.exec(one) ?? [];
    if (disk === undefined || path === undefined)
      throw new UsageError(`--target ${one} is not DISK=PATH`, { hint: "For example --target vda=/dev/vg0/web" });
    if (targets.has(disk)) throw new UsageError(`--target names the disk ${disk} twice`);
    targets.set(disk, path);
  }
  return targets;
}

function requireSense(flags: RestoreFlags, targets: ReadonlyMap<string, string>): void {
  if (flags.output === undefined && targets.size === 0)
    throw new UsageError("There is nowhere to restore to", { hint: "Give --output DIR, or --target DISK=PATH" });
  if (flags.define !== true) {
    if (flags.name !== undefined || flags.connect !== undefined) throw new UsageError("--connect and --name go with --define");
    return;
  }
  if (flags.connect === undefined) throw new UsageError("--define needs --connect URI");
  if (flags.output === undefined) throw new UsageError("--define needs --output DIR, for what the domain needs beside its disks");
}
