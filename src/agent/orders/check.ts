import { type CheckedResult, type CheckWork, MAX_DAMAGED } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { checkDomains, type CheckReport } from "../../repository/index.ts";
import type { OrderedWork, OrderJob } from "./job.ts";

const MAX_WARNINGS = 8;

/** Looks whether all that restore points need is there, and proves as much of it as it was told to. Damage is what it found, and no failure of its own. */
export function checkWork({ samplePercent }: CheckWork, { board, signal, withDomains }: OrderJob): OrderedWork {
  return {
    routes: {},
    carryOut: async () =>
      await withDomains(async (domains) => {
        board.enter("Working");
        const how = samplePercent === 100 ? ({ level: "read", sample: 0 } as const) : ({ level: "list", sample: samplePercent } as const);
        const report = await checkDomains(domains, { signal, ...how });
        const told = resultOf(report, samplePercent);
        const warnings = report.findings.slice(0, MAX_WARNINGS).map(({ what, reason }) => `${what}: ${reason}`);
        return { version: 1, outcome: "Succeeded", message: messageOf(told), warnings, check: told };
      }),
  };
}

function resultOf({ points, packs, bytesRead, findings }: CheckReport, samplePercent: number): CheckedResult {
  const damaged = [...new Set(findings.flatMap((finding) => finding.points))];
  return {
    samplePercent,
    points,
    packs,
    bytesRead,
    findings: findings.length,
    damaged: damaged.length,
    damagedPoints: damaged.slice(0, MAX_DAMAGED),
  };
}

function messageOf({ points, packs, bytesRead, findings, damaged, damagedPoints }: CheckedResult): string {
  const looked = `${points} restore points and ${packs} packs${bytesRead === 0 ? "" : `, ${formatBytes(bytesRead)} of them read`}`;
  if (findings === 0) return `no damage in ${looked}`;
  const some = damagedPoints.slice(0, 5).join(", ");
  return `${damaged} restore points lack something (${some}${damaged > 5 ? ", …" : ""}) of ${looked}: the next backup of each machine stores again what is lost`;
}
