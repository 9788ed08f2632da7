import { type PrunedResult, rfc3339 } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { prune, type PruneReport } from "../../repository/index.ts";
import type { OrderedWork, OrderJob } from "./job.ts";

const MAX_WARNINGS = 8;

/** Takes away what no restore point needs. What it cannot judge it leaves, and says why. */
export function pruneWork(_work: { readonly type: "prune" }, { board, signal, withRepository }: OrderJob): OrderedWork {
  return {
    routes: {},
    carryOut: async () =>
      await withRepository(async (repository) => {
        board.enter("Working");
        const report = await prune(repository, { signal });
        const told = resultOf(report);
        const warnings = report.unclear.slice(0, MAX_WARNINGS).map(({ id, reason }) => `${id}: ${reason}`);
        return { version: 1, outcome: "Succeeded", message: messageOf(told), warnings, prune: told };
      }),
  };
}

function resultOf({ packs, removed, waiting, unclear }: PruneReport): PrunedResult {
  const until = waiting.map((one) => one.until.getTime());
  return {
    packs: packs.stored,
    packBytes: packs.bytes,
    removedPoints: removed.points.length,
    removedPacks: removed.packs,
    removedBytes: removed.bytes,
    waitingBytes: waiting.reduce((sum, { bytes }) => sum + bytes, 0),
    ...(until.length === 0 ? {} : { waitingUntil: rfc3339(new Date(Math.min(...until))) }),
    unclear: unclear.length,
  };
}

function messageOf({
  packs,
  packBytes,
  removedPoints,
  removedPacks,
  removedBytes,
  waitingBytes,
  waitingUntil,
  unclear,
}: PrunedResult): string {
  const removed = `${removedPoints} forgotten restore points and ${removedPacks} packs, ${formatBytes(removedBytes)}, of ${packs}, ${formatBytes(packBytes)}, were removed`;
  if (unclear > 0)
    return `no pack may go: of ${unclear} restore points nobody can tell what they need; bring them back, or delete their RestorePoints`;
  return waitingUntil === undefined ? removed : `${removed}; ${formatBytes(waitingBytes)} more may go from ${waitingUntil} on`;
}
