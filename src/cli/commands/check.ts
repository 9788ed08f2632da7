import { formatBytes } from "../../lib/bytes.ts";
import { checkDomains, type DomainsCheckReport } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withDomains } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { ProgressDisplay } from "../progress.ts";

export interface CheckFlags extends RepositoryFlags {
  readonly level: "list" | "checksum" | "read";
  /** percent */
  readonly sample?: number;
}

/** Percent of the packs whose checksums are compared where nobody says how many: a daily run comes around in weeks, for few requests a day. */
const COMPARED = 10;

/** `thinstream check`: says what is missing or damaged of all that any point needs, and whose it is. */
export async function check(flags: CheckFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    const display = new ProgressDisplay("Checking");
    const onProgress = ({ packs, ofPacks, bytesRead }: { packs: number; ofPacks: number; bytesRead: number }): void =>
      display.update({ done: packs, total: ofPacks, bytes: bytesRead });
    const { level } = flags;
    const { sample = level === "checksum" ? COMPARED : 0 } = flags;
    const checking = checkDomains(domains, { signal: context.signal, onProgress, level, sample });
    const report = await checking.finally(() => display.end());
    const { destroyed, ...rest } = report;
    return {
      json: { ok: report.findings.length === 0, ...rest, ...(destroyed.length === 0 ? {} : { destroyed }) },
      text: textOf(report, level),
      exitCode: exitCodeOf(report),
    };
  });
}

function exitCodeOf({ findings, packs, sums }: DomainsCheckReport): ExitCode {
  if (findings.length > 0) return ExitCode.failed;
  return sums?.compared === 0 && packs > 0 ? ExitCode.warnings : ExitCode.ok;
}

function textOf(report: DomainsCheckReport, level: CheckFlags["level"]): string {
  const { points, packs, bytesRead, findings, noted, sample, sums, destroyed } = report;
  const looked = lookedAt({ bytesRead, sums, isListed: level === "list" && sample === undefined });
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
    ...(sums === undefined ? [] : notCompared(sums)),
    ...confidence,
    ...destroyed.map(
      ({ name, time, points: left }) =>
        `The domain ${name} was destroyed (${time}): ${left} points of it are in the bucket yet, which nobody can read`,
    ),
  ].join("\n");
}

function lookedAt({
  bytesRead,
  sums,
  isListed,
}: Pick<DomainsCheckReport, "bytesRead"> & { readonly sums: DomainsCheckReport["sums"] | undefined; readonly isListed: boolean }): string {
  if (sums !== undefined) return `the checksums of ${sums.compared} compared, nothing read`;
  return isListed ? "listed, nothing read" : `${formatBytes(bytesRead)} read`;
}

function notCompared({ unrecorded, unkept }: NonNullable<DomainsCheckReport["sums"]>): string[] {
  return [
    ...(unkept > 0
      ? [`The store keeps no checksum of ${unkept} packs, so that nothing was compared of them: --level read reads them`]
      : []),
    ...(unrecorded > 0
      ? [
          `Of ${unrecorded} packs nobody wrote down the checksum when they were stored, so that nothing was compared of them: --level read reads them`,
        ]
      : []),
  ];
}

function sampled({ packs, detects }: NonNullable<DomainsCheckReport["sample"]>): string {
  if (detects >= 1) return `${packs} packs looked at, at random, are too few to say anything of the others`;
  const share = Number((detects * 100).toPrecision(2));
  return `${packs} packs were drawn at random: were ${share} % of all damaged, one of those would have been among them with a probability of 95 %`;
}
