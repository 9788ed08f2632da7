import { POINTS, parsePointKey } from "../layout.ts";
import type { Domains } from "../domains/domains.ts";
import type { Repository } from "../repository.ts";
import { type CheckOptions, type CheckReport, checkRepository } from "./check-repository.ts";
import type { Finding } from "./finding.ts";
import { checkListed, detectable } from "./list-check.ts";
import type { SumCounts } from "./sum-check.ts";

/** A check of all domains, and what it passed over. */
export interface DomainsCheckReport extends CheckReport {
  /** domains that were destroyed on purpose, and how many points of each are in the bucket yet */
  readonly destroyed: readonly { readonly name: string; readonly time: string; readonly points: number }[];
}

/** Checks every domain. @param level `read`: everything is read; else lists, and so many percent of the packs read, or of `checksum` compared */
export async function checkDomains(
  domains: Domains,
  { level, sample, ...options }: CheckOptions & { readonly level: "list" | "checksum" | "read"; readonly sample: number },
): Promise<DomainsCheckReport> {
  const isWhole = level === "read" && sample === 0;
  const check = async (domain: Repository): Promise<CheckReport> =>
    isWhole ? await checkRepository(domain, options) : await checkListed(domain, { ...options, sample, compare: level === "checksum" });
  const reports: CheckReport[] = [];
  for (const domain of domains.opened) reports.push(await check(domain));
  const lost = domains.lost.map(({ id, error }): Finding => ({ what: `keys/${id}`, reason: error.message, points: [], places: [] }));
  // What no domain can read is found by each.
  const found = [...new Map(reports.flatMap(({ findings }) => findings).map((one) => [JSON.stringify(one), one])).values()];
  const findings = [...lost, ...(await domains.withoutNewcomers(found, pointOf, options.signal))];
  const total = (of: (report: CheckReport) => number): number => reports.reduce((sum, report) => sum + of(report), 0);
  const samples = reports.flatMap((report) => (report.sample === undefined ? [] : [report.sample]));
  const sums = reports.flatMap((report) => (report.sums === undefined ? [] : [report.sums]));
  const packs = samples.reduce((sum, one) => sum + one.packs, 0);
  return {
    points: total((report) => report.points),
    packs: total((report) => report.packs),
    bytesRead: total((report) => report.bytesRead),
    findings,
    noted: reports.every(({ noted }) => noted),
    ...(sums.length === 0 ? {} : { sums: sums.reduce(added) }),
    ...(samples.length === 0
      ? {}
      : { sample: { packs, detects: samples.every(({ detects }) => detects === 0) ? 0 : detectable(packs, Number.POSITIVE_INFINITY) } }),
    destroyed: await destroyedOf(domains, options.signal),
  };
}

function added(a: SumCounts, b: SumCounts): SumCounts {
  return { compared: a.compared + b.compared, unrecorded: a.unrecorded + b.unrecorded, unkept: a.unkept + b.unkept };
}

/** The id of the point that a finding is about, where it is about one. */
function pointOf({ what }: Finding): string | null {
  return /^point (.*)$/.exec(what)?.[1] ?? null;
}

async function destroyedOf({ store, destroyed }: Domains, signal: AbortSignal): Promise<DomainsCheckReport["destroyed"]> {
  if (destroyed.length === 0) return [];
  const counts = new Map<string, number>();
  for await (const { key } of store.list(POINTS, { signal })) {
    const vm = parsePointKey(key)?.vmId;
    if (vm !== undefined) counts.set(vm, (counts.get(vm) ?? 0) + 1);
  }
  return destroyed.map(({ name, time, machines }) => ({
    name,
    time,
    points: machines.reduce((sum, vm) => sum + (counts.get(vm) ?? 0), 0),
  }));
}
