import { type CheckedResult, type CheckWork, MAX_DAMAGED } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { checkListed, checkRepository, type CheckReport } from "../../repository/index.ts";
import type { OrderedWork, OrderJob } from "./job.ts";

const MAX_WARNINGS = 8;

/** Looks whether all that restore points need is there, and proves as much of it as it was told to. Damage is what it found, and no failure of its own. */
export function checkWork({ samplePercent }: CheckWork, { board, signal, withRepository }: OrderJob): OrderedWork {
  return {
    routes: {},
    carryOut: async () =>
      await withRepository(async (repository) => {
        board.enter("Working");
        const isWhole = samplePercent === 100;
        const report = isWhole
          ? await checkRepository(repository, { signal })
          : await checkListed(repository, { signal, sample: samplePercent });
        const told = resultOf(report);
        const warnings = report.findings.slice(0, MAX_WARNINGS).map(({ what, reason }) => `${what}: ${reason}`);
        return { version: 1, outcome: "Succeeded", message: messageOf(told), warnings, check: told };
      }),
  };
}

function resultOf({ points, packs, bytesRead, findings }: CheckReport): CheckedResult {
  const damaged = [...new Set(findings.flatMap((finding) => finding.points))];
  return { points, packs, bytesRead, findings: findings.length, damaged: damaged.length, damagedPoints: damaged.slice(0, MAX_DAMAGED) };
}

function messageOf({ points, packs, bytesRead, findings, damaged, damagedPoints }: CheckedResult): string {
  const looked = `${points} restore points and ${packs} packs${bytesRead === 0 ? "" : `, ${formatBytes(bytesRead)} of them read`}`;
  if (findings === 0) return `no damage in ${looked}`;
  const some = damagedPoints.slice(0, 5).join(", ");
  return `${damaged} restore points lack something (${some}${damaged > 5 ? ", …" : ""}) of ${looked}: the next backup of each machine stores again what is lost`;
}
