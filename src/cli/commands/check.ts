import { formatBytes } from "../../lib/bytes.ts";
import { checkRepository } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withRepository } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { ProgressDisplay } from "../progress.ts";

/** `thinstream check`: reads everything that any point needs and says what is missing or damaged, and whose it is. */
export async function check(flags: RepositoryFlags, context: Context): Promise<Outcome> {
  return await withRepository(flags, context, async (repository) => {
    const display = new ProgressDisplay("Checking");
    const onProgress = ({ packs, ofPacks, bytesRead }: { packs: number; ofPacks: number; bytesRead: number }): void =>
      display.update({ done: packs, total: ofPacks, bytes: bytesRead });
    const report = await checkRepository(repository, { signal: context.signal, onProgress }).finally(() => display.end());
    const summary = `${report.points} restore points, ${report.packs} packs, ${formatBytes(report.bytesRead)} read`;
    const lines = report.findings.map(
      ({ what, reason, points }) => `${what}: ${reason}. Touches ${points.length === 0 ? "no point" : points.join(", ")}`,
    );
    const ok = report.findings.length === 0;
    return {
      json: { ok, ...report },
      text: ok ? `No damage: ${summary}` : `DAMAGED: ${summary}\n${lines.join("\n")}`,
      exitCode: ok ? ExitCode.ok : ExitCode.failed,
    };
  });
}
