import { type PrunedResult, rfc3339 } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { pruneDomains, type PruneReport } from "../../repository/index.ts";
import type { OrderedWork, OrderJob } from "./job.ts";

const MAX_WARNINGS = 8;

/** Takes away what no restore point needs. What it cannot judge it leaves, and says why. */
export function pruneWork(_work: { readonly type: "prune" }, { board, signal, withDomains }: OrderJob): OrderedWork {
  return {
    routes: {},
    carryOut: async () =>
      await withDomains(async (domains) => {
        board.enter("Working");
        const report = await pruneDomains(domains, { signal });
        const told = resultOf(report);
        const warnings = report.unclear.slice(0, MAX_WARNINGS).map(({ id, reason }) => `${id}: ${reason}`);
        return { version: 1, outcome: "Succeeded", message: messageOf(told), warnings, prune: told };
      }),
  };
}

function resultOf({ packs, removed, waiting, sparse, unclear }: PruneReport): PrunedResult {
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
    // What such points need is not counted, so that packs would pass for sparse that are not.
    ...(unclear.length > 0 ? {} : { sparse: { packs: sparse.packs, bytes: sparse.bytes, needless: sparse.needless } }),
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
  sparse,
  unclear,
}: PrunedResult): string {
  const removed = `${removedPoints} forgotten restore points and ${removedPacks} packs, ${formatBytes(removedBytes)}, of ${packs}, ${formatBytes(packBytes)}, were removed`;
  if (unclear > 0)
    return `no pack may go: of ${unclear} restore points nobody can tell what they need; bring them back, or delete their RestorePoints`;
  return [
    removed,
    ...(waitingUntil === undefined ? [] : [`${formatBytes(waitingBytes)} more may go from ${waitingUntil} on`]),
    ...(sparse === undefined || sparse.packs === 0 ? [] : [sparseText(sparse)]),
  ].join("; ");
}

function sparseText({ packs, bytes, needless }: NonNullable<PrunedResult["sparse"]>): string {
  return `${packs} packs, ${formatBytes(bytes)}, are needed for less than 30 %, and hold ${formatBytes(needless)} that nobody needs`;
}
