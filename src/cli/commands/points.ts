import { formatBytes } from "../../lib/bytes.ts";
import type { DiskStats, PointDisk, PointRecord } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { table } from "../table.ts";

export interface PointsFlags extends RepositoryFlags {
  readonly vm?: string;
}

/** `thinstream points`: what can be restored, oldest first. */
export async function points(flags: PointsFlags, context: Context): Promise<Outcome> {
  return await withRepository(flags, context, async ({ catalog }) => {
    const options = { signal: context.signal, ...(flags.vm === undefined ? {} : { vm: flags.vm }) };
    const listing = await catalog.digests(options, summary);
    const warnings = listing.unreadable.map(({ id, error }) => `The restore point ${id} cannot be read: ${error.message}`);
    const rows = listing.points.map((point) => [
      point.id,
      point.vm,
      point.time,
      point.level,
      point.consistency,
      point.disks.map((disk) => `${disk.name} ${formatBytes(disk.size)}`).join(", "),
      formatBytes(point.disks.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0)),
      point.held ? "held" : "",
    ]);
    const shown =
      rows.length === 0 ? "No restore points" : table(["POINT", "VM", "TIME", "LEVEL", "CONSISTENCY", "DISKS", "STORED", "HOLD"], rows);
    return {
      json: { points: listing.points, warnings },
      text: [shown, ...warnings].join("\n"),
      exitCode: warnings.length === 0 ? ExitCode.ok : ExitCode.warnings,
    };
  });
}

export interface ShowFlags extends RepositoryFlags {
  readonly point: string;
}

/** `thinstream show`: everything one point says of itself. */
export async function show(flags: ShowFlags, context: Context): Promise<Outcome> {
  return await withRepository(flags, context, async ({ catalog }) => {
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
