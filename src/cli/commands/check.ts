import { formatBytes } from "../../lib/bytes.ts";
import { checkDomains, type DomainsCheckReport } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withDomains } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { ProgressDisplay } from "../progress.ts";

export interface CheckFlags extends RepositoryFlags {
  readonly level: "list" | "read";
  /** percent */
  readonly sample?: number;
}

/** `thinstream check`: says what is missing or damaged of all that any point needs, and whose it is. */
export async function check(flags: CheckFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    const display = new ProgressDisplay("Checking");
    const onProgress = ({ packs, ofPacks, bytesRead }: { packs: number; ofPacks: number; bytesRead: number }): void =>
      display.update({ done: packs, total: ofPacks, bytes: bytesRead });
    const { level, sample = 0 } = flags;
    const checking = checkDomains(domains, { signal: context.signal, onProgress, level, sample });
    const report = await checking.finally(() => display.end());
    const ok = report.findings.length === 0;
    const { destroyed, ...rest } = report;
    return {
      json: { ok, ...rest, ...(destroyed.length === 0 ? {} : { destroyed }) },
      text: textOf(report, level),
      exitCode: ok ? ExitCode.ok : ExitCode.failed,
    };
  });
}

function textOf({ points, packs, bytesRead, findings, noted, sample, destroyed }: DomainsCheckReport, level: CheckFlags["level"]): string {
  const looked = level === "list" && sample === undefined ? "listed, nothing read" : `${formatBytes(bytesRead)} read`;
  const summary = `${points} restore points, ${packs} packs, ${looked}`;
  const lines = findings.map(
    ({ what, reason, points: touched }) => `${what}: ${reason}. Touches ${touched.length === 0 ? "no point" : touched.join(", ")}`,
  );
  const next = noted
    ? "The next backup of each machine that this touches reads its damaged disks whole and stores again what is lost; what older points lost stays lost"
    : "These credentials may not write, so the next backups know nothing of it: check with those of a writer, and they will store again what is lost";
  const confidence = sample === undefined || sample.detects === 0 ? [] : [sampled(sample)];
  return [
    findings.length === 0 ? `No damage: ${summary}` : `DAMAGED: ${summary}`,
    ...lines,
    ...(findings.length === 0 ? [] : [next]),
    ...confidence,
    ...destroyed.map(
      ({ name, time, points: left }) =>
        `The domain ${name} was destroyed (${time}): ${left} points of it are in the bucket yet, which nobody can read`,
    ),
  ].join("\n");
}

function sampled({ packs, detects }: NonNullable<DomainsCheckReport["sample"]>): string {
  const share = (detects * 100).toPrecision(2);
  return `${packs} packs were drawn at random: were ${share} % of all damaged, one of those would have been among them with a probability of 95 %`;
}
