import { type CheckedResult, type CheckWork, MAX_DAMAGED } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { checkDomains, type CheckReport } from "../../repository/index.ts";
import type { OrderedWork, OrderJob } from "./job.ts";

const MAX_WARNINGS = 8;

/** Looks whether all that restore points need is there, and proves as much of it as it was told to. Damage is what it found, and no failure of its own. */
export function checkWork(work: CheckWork, { board, signal, withDomains }: OrderJob): OrderedWork {
  return {
    routes: {},
    carryOut: async () =>
      await withDomains(async (domains) => {
        board.enter("Working");
        const isWhole = work.level === "list" && work.samplePercent === 100;
        const how = isWhole ? ({ level: "read", sample: 0 } as const) : { level: work.level, sample: work.samplePercent };
        const report = await checkDomains(domains, { signal, ...how });
        const told = resultOf(report, work);
        const warnings = report.findings.slice(0, MAX_WARNINGS).map(({ what, reason }) => `${what}: ${reason}`);
        return { version: 1, outcome: "Succeeded", message: messageOf(told), warnings, check: told };
      }),
  };
}

function resultOf({ points, packs, bytesRead, sums, findings }: CheckReport, { level, samplePercent }: CheckWork): CheckedResult {
  const damaged = [...new Set(findings.flatMap((finding) => finding.points))];
  return {
    level,
    samplePercent,
    points,
    packs,
    bytesRead,
    ...(sums === undefined ? {} : { sums }),
    findings: findings.length,
    damaged: damaged.length,
    damagedPoints: damaged.slice(0, MAX_DAMAGED),
  };
}

function messageOf({ points, packs, bytesRead, sums, findings, damaged, damagedPoints }: CheckedResult): string {
  const read = bytesRead === 0 ? "" : `, ${formatBytes(bytesRead)} of them read`;
  const how = sums === undefined ? read : `, the checksums of ${sums.compared} compared, nothing read`;
  const looked = `${points} restore points and ${packs} packs${how}`;
  const left = sums === undefined ? "" : notCompared(sums);
  if (findings === 0) return `no damage in ${looked}${left}`;
  const some = damagedPoints.slice(0, 5).join(", ");
  return `${damaged} restore points lack something (${some}${damaged > 5 ? ", …" : ""}) of ${looked}: the next backup of each machine stores again what is lost${left}`;
}

function notCompared({ unrecorded, unkept }: NonNullable<CheckedResult["sums"]>): string {
  const why = [
    ...(unkept > 0 ? [`the store keeps no checksum of ${unkept}`] : []),
    ...(unrecorded > 0 ? [`of ${unrecorded} nobody wrote down the checksum when they were stored`] : []),
  ];
  return why.length === 0
    ? ""
    : `; ${why.join(", and ")}, so that nothing was compared of them: level List with a samplePercent reads packs`;
}
