import type { PointSummary, ResultDisk, SucceededResult } from "../../api/index.ts";
import type { PointRecord } from "../../repository/index.ts";

/** A point as the channel tells of it. */
export function summaryOf(point: PointRecord): PointSummary {
  const { id, seq, time, parent, level, consistency, warnings } = point;
  return {
    id,
    seq,
    time,
    vm: { name: point.vm.name, uid: point.vm.uuid },
    parent,
    level,
    consistency,
    disks: point.disks.map((disk) => ({ name: disk.name, size: disk.size, level: disk.level, uploadedBytes: disk.stats.uploadedBytes })),
    captures: point.captures.map(({ name, size }) => ({ name, size })),
    warnings: [...warnings],
  };
}

/** The result of a backup that has this point. `found`: an earlier attempt of the same run had made it. */
export function backupResult(
  point: PointRecord,
  { warnings, found }: { readonly warnings: readonly string[]; readonly found: boolean },
): SucceededResult {
  const { id, time, level, consistency } = point;
  const disks = point.disks.map(({ name, level: read, reason, size, stats }): ResultDisk => {
    const { dirtyBytes, zeroBytes, readBytes, uploadedBytes } = stats;
    return { name, level: read, ...(reason === "" ? {} : { reason }), size, dirtyBytes, zeroBytes, readBytes, uploadedBytes };
  });
  const total = (of: (disk: ResultDisk) => number): number => disks.reduce((sum, disk) => sum + of(disk), 0);
  const said = `Restore point ${id} of ${point.vm.name} (${level}, ${consistency}-consistent)`;
  return {
    version: 1,
    outcome: "Succeeded",
    message: found ? `${said}, made by an earlier attempt` : said,
    warnings: [...warnings],
    point: { id, time, level, consistency, found },
    totals: {
      size: total((disk) => disk.size),
      dirtyBytes: total((disk) => disk.dirtyBytes),
      readBytes: total((disk) => disk.readBytes),
      uploadedBytes: total((disk) => disk.uploadedBytes),
    },
    disks,
  };
}
