import { formatBytes } from "../../lib/bytes.ts";
import type { DiskStats, PointDisk, PointRecord } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withDomains } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { table } from "../table.ts";

export interface PointsFlags extends RepositoryFlags {
  readonly vm?: string;
}

/** `thinstream points`: what can be restored, oldest first. */
export async function points(flags: PointsFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    const options = { signal: context.signal, ...(flags.vm === undefined ? {} : { vm: flags.vm }) };
    const listing = await domains.digests(options, (point, held, { label }) => ({
      ...summary(point, held),
      ...(domains.several ? { domain: label } : {}),
    }));
    const warnings = [
      ...listing.unreadable.map(({ id, error }) => `The restore point ${id} cannot be read: ${error.message}`),
      ...domains.lost.map(({ id, error }) => `All points of the domain ${id} are unreadable: ${error.message}`),
    ];
    const listed = listing.points.toSorted((a, b) => (a.time === b.time ? 0 : a.time < b.time ? -1 : 1));
    const inOrder = domains.opened.length === 1 ? listing.points : listed;
    const rows = inOrder.map((point) => [
      point.id,
      point.vm,
      ...(domains.several ? [point.domain ?? ""] : []),
      point.time,
      point.level,
      point.consistency,
      point.disks.map((disk) => `${disk.name} ${formatBytes(disk.size)}`).join(", "),
      formatBytes(point.disks.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0)),
      point.held ? "held" : "",
    ]);
    const head = ["POINT", "VM", ...(domains.several ? ["DOMAIN"] : []), "TIME", "LEVEL", "CONSISTENCY", "DISKS", "STORED", "HOLD"];
    const destroyed = domains.destroyed.map(({ name, time }) => ({ name, time }));
    return {
      json: { points: inOrder, warnings, ...(destroyed.length === 0 ? {} : { destroyed }) },
      text: [rows.length === 0 ? "No restore points" : table(head, rows), ...destroyed.map(destroyedLine), ...warnings].join("\n"),
      exitCode: warnings.length === 0 ? ExitCode.ok : ExitCode.warnings,
    };
  });
}

function destroyedLine({ name, time }: { readonly name: string; readonly time: string }): string {
  return `The domain ${name} was destroyed (${time}); its points are not listed, and nobody can read them`;
}

export interface ShowFlags extends RepositoryFlags {
  readonly point: string;
}

/** `thinstream show`: everything one point says of itself. */
export async function show(flags: ShowFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    const { catalog } = await domains.holding(flags.point, context.signal);
    const point = await catalog.point(flags.point, context.signal);
    const held = await catalog.isHeld(flags.point, context.signal);
    const lines = [
      `Point        ${point.id}`,
      `VM           ${point.vm.name}${point.vm.uuid === null ? "" : ` (${point.vm.uuid})`}`,
      `Time         ${point.time}`,
      `Level        ${point.level}`,
      `Consistency  ${point.consistency}`,
      `Parent       ${point.parent ?? "-"}`,
      ...(point.origin === undefined ? [] : [`Copied from  ${point.origin.point} of the repository ${point.origin.repository}`]),
      `Held         ${held ? "yes" : "no"}`,
      `Captured     ${point.captures.map(({ name, size }) => `${name} (${formatBytes(size)})`).join(", ") || "-"}`,
      ...point.warnings.map((warning) => `Warning      ${warning}`),
      "",
      table(["DISK", "SIZE", "LEVEL", "DIRTY", "READ", "NEW", "STORED", "CHECKPOINT", "REASON"], point.disks.map(diskRow)),
    ];
    return { json: detail(point, held), text: lines.join("\n"), exitCode: ExitCode.ok };
  });
}

function diskRow({ name, size, level, stats, checkpoint, reason }: PointRecord["disks"][number]): string[] {
  const { dirtyBytes, readBytes, newBytes, uploadedBytes } = stats;
  return [
    name,
    formatBytes(size),
    level,
    ...[dirtyBytes, readBytes, newBytes, uploadedBytes].map((bytes) => formatBytes(bytes)),
    checkpoint ?? "-",
    reason,
  ];
}

interface PointSummary extends Pick<PointRecord, "id" | "time" | "level" | "consistency" | "parent" | "warnings"> {
  readonly vm: string;
  readonly uuid: string | null;
  readonly held: boolean;
  readonly disks: readonly (Pick<PointDisk, "name" | "size" | "level"> & DiskStats)[];
}

function summary(point: PointRecord, held: boolean): PointSummary {
  const { id, time, level, consistency, parent, disks, warnings } = point;
  return {
    id,
    vm: point.vm.name,
    uuid: point.vm.uuid,
    time,
    level,
    consistency,
    parent,
    held,
    disks: disks.map(({ name, size, level: diskLevel, stats }) => ({ name, size, level: diskLevel, ...stats })),
    warnings,
  };
}

function detail(point: PointRecord, held: boolean): object {
  const disks = point.disks.map(({ name, size, level, reason, base, checkpoint, imageInfo, stats }) => ({
    name,
    size,
    level,
    reason,
    base,
    checkpoint,
    ...stats,
    imageInfo,
  }));
  return {
    ...summary(point, held),
    seq: point.seq,
    run: point.run,
    origin: point.origin ?? null,
    tool: point.tool,
    disks,
    captures: point.captures.map(({ name, size }) => ({ name, size })),
  };
}
