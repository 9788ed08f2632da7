import type { ResultDisk, SucceededResult, VirtualMachineBackup } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import type { Completion } from "../runs/run.ts";
import type { Kept } from "./kept.ts";

const LEVELS = { full: "Full", incremental: "Incremental", differential: "Incremental", copy: "Copy" } as const;
const CONSISTENCIES = { filesystem: "Filesystem", crash: "Crash", offline: "Offline" } as const;

type Finished = SucceededResult & { readonly point: NonNullable<SucceededResult["point"]> };
type DiskStatus = NonNullable<NonNullable<VirtualMachineBackup["status"]>["disks"]>[number];

/** How a backup that made a restore point reads in its run. */
export function outcomeOf(
  { point, disks = [], totals, warnings }: Finished,
  kept: Kept | null,
): Extract<Completion, { readonly kind: "done" }> {
  const level = LEVELS[point.level];
  const consistency = CONSISTENCIES[point.consistency];
  const uploaded = formatBytes(totals?.uploadedBytes ?? 0);
  const { madeAnew = [], doubts = {} } = kept ?? {};
  const without = madeAnew.length === 0 ? "" : `; without ${madeAnew.join(", ")}, made anew at every start`;
  return {
    kind: "done",
    message: `restore point ${point.id}: ${level}, ${consistency}-consistent, ${uploaded} uploaded${without}`,
    warnings: [...(kept?.warnings ?? []), ...warnings],
    status: { level, consistency, pointId: point.id, uploaded, disks: disks.map((disk) => diskStatus(disk, doubts)) },
  };
}

/** @param doubts why the controller had disks read whole; what the agent found counts more */
function diskStatus(
  { name, level, size, dirtyBytes, zeroBytes, readBytes, uploadedBytes, reason }: ResultDisk,
  doubts: Readonly<Record<string, string>>,
): DiskStatus {
  const why = level === "full" ? (reason ?? doubts[name]) : undefined;
  return {
    name,
    level: LEVELS[level],
    ...(why === undefined ? {} : { reason: why.slice(0, 512) }),
    sizeBytes: size,
    dirtyBytes,
    zeroBytes,
    readBytes,
    uploadedBytes,
  };
}
