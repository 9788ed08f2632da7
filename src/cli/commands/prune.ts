import { formatBytes } from "../../lib/bytes.ts";
import { type DomainsPruneReport, pruneDomains, type PruneProgress } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withDomains } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { StepDisplay } from "../progress.ts";

export interface PruneFlags extends RepositoryFlags {
  readonly dryRun?: true;
}

const STEPS = { list: "Listing", mark: "Looking at restore points", remove: "Removing" } as const;

/** `thinstream prune`: removes what no restore point refers to. Needs the right to delete in the store. */
export async function prune(flags: PruneFlags, context: Context): Promise<Outcome> {
  return await withDomains(flags, context, async (domains) => {
    const steps = new StepDisplay(STEPS);
    const { dryRun = false } = flags;
    const onProgress = (progress: PruneProgress): void => steps.update(progress);
    const report = await pruneDomains(domains, { signal: context.signal, dryRun, onProgress }).finally(() => steps.end());
    const { destroyed, ...rest } = report;
    return {
      json: { dryRun, ...rest, ...(destroyed.length === 0 ? {} : { destroyed }) },
      text: textOf(report, dryRun),
      exitCode: report.unclear.length === 0 ? ExitCode.ok : ExitCode.failed,
    };
  });
}

const WAITS = {
  young: "may belong to a backup under way",
  marked: "were found unneeded, and have to be so again",
  destroyed: "are of a domain that was destroyed",
} as const;

function textOf({ points, packs, removed, locked, waiting, sparse, unclear, destroyed }: DomainsPruneReport, dryRun: boolean): string {
  const extra = [
    ...(points.forgotten > 0 ? [`${points.forgotten} of them forgotten less than 30 hours ago`] : []),
    ...(points.held > 0 ? [`${points.held} forgotten but held`] : []),
  ];
  const lines = [
    `${points.counted} restore points count${extra.length === 0 ? "" : `, ${extra.join(", ")}`}; ${packs.stored} packs, ${formatBytes(packs.bytes)}, are stored`,
    `${dryRun ? "Would remove" : "Removed"} ${removed.points.length} forgotten restore points and ${removed.packs} packs, ${formatBytes(removed.bytes)}`,
    ...(locked === null
      ? []
      : [
          `${locked.packs} of these packs, ${formatBytes(locked.bytes)}, are under a lock until ${locked.until.toISOString().slice(0, 16)}Z at the latest: the bucket keeps their old versions, and their bytes, as long`,
        ]),
    ...waiting.map(({ packs: count, bytes, why, until }) => {
      return `${count} packs, ${formatBytes(bytes)}, ${WAITS[why]}: a prune after ${until.toISOString().slice(0, 16)}Z may remove them`;
    }),
    ...sparseLines(sparse),
    ...destroyed.flatMap(({ domain, held }) =>
      held.length === 0
        ? []
        : [`Nothing of the destroyed domain ${domain} goes while points of it are held: ${held.slice(0, 5).join(", ")}`],
    ),
  ];
  if (unclear.length === 0) return lines.join("\n");
  return [
    ...lines,
    "NO PACK MAY GO, because nobody can tell what these restore points need; bring them back, or forget them and wait 30 hours:",
    ...unclear.map(({ id, reason }) => `  ${id}: ${reason}`),
  ].join("\n");
}

function sparseLines({ packs, bytes, needless, newest }: DomainsPruneReport["sparse"]): string[] {
  if (packs === 0) return [];
  const again =
    newest.packs === 0 ? "" : `the next backups store again what they need of ${newest.packs} of them, ${formatBytes(newest.bytes)}; `;
  return [
    `${packs} packs, ${formatBytes(bytes)}, are needed for less than 30 %, and hold ${formatBytes(needless)} that nobody needs: ${again}each goes when the restore points that need it were forgotten`,
  ];
}
