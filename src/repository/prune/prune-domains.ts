import type { Domains } from "../domains/domains.ts";
import { PackNumbers } from "../format/pack-numbers.ts";
import { type Plan, Pruning, type PruneOptions } from "./plan.ts";
import { type LockedPacks, type PruneReport, reportOf, stillLocked } from "./prune.ts";
import { clearDestroyed, type Cleared } from "./destroyed.ts";
import type { SparsePacks } from "./sparse.ts";
import { Sweep } from "./sweep.ts";

/** A prune of all domains, and what it says of those that were destroyed. */
export interface DomainsPruneReport extends PruneReport {
  readonly destroyed: readonly Cleared[];
}

/** Prunes every domain. While of one point it cannot be told what it refers to, nothing is given up in any: it may be any domain's. */
export async function pruneDomains(domains: Domains, options: PruneOptions): Promise<DomainsPruneReport> {
  domains.requireWhole();
  const at = await domains.store.now(options);
  const plans: Plan[] = [];
  for (const domain of domains.opened) plans.push(await new Pruning(domain, options).plan());
  const unclear = [...new Map(plans.flatMap((plan) => plan.unclear).map((one) => [one.id, one])).values()];
  const decided = plans.map((plan) => (unclear.length === 0 ? plan : { ...plan, unclear, removable: new PackNumbers() }));
  for (const [i, domain] of domains.opened.entries()) {
    const plan = decided[i];
    if (plan !== undefined && options.dryRun !== true) await new Sweep(domain, options).carryOut(plan);
  }
  const destroyed: Cleared[] = [];
  for (const tombstone of domains.destroyed) destroyed.push(await clearDestroyed(domains.store, tombstone, options));
  const reports: PruneReport[] = [];
  for (const [i, domain] of domains.opened.entries()) {
    const plan = decided[i];
    if (plan !== undefined) reports.push(reportOf(plan, await stillLocked(domain, plan, options.signal)));
  }
  return { ...sumUp(reports, destroyed, at), unclear, destroyed };
}

function sumUp(reports: readonly PruneReport[], destroyed: readonly Cleared[], at: Date): PruneReport {
  const all = [...reports.map(({ removed }) => removed), ...destroyed.map(({ removed }) => removed)];
  const total = (of: (report: PruneReport) => number): number => reports.reduce((sum, report) => sum + of(report), 0);
  const [first] = reports;
  return {
    at: first?.at ?? at,
    points: {
      counted: total(({ points }) => points.counted),
      forgotten: total(({ points }) => points.forgotten),
      held: total(({ points }) => points.held),
    },
    packs: {
      stored: total(({ packs }) => packs.stored) + destroyed.reduce((sum, { packs }) => sum + packs.stored, 0),
      bytes: total(({ packs }) => packs.bytes) + destroyed.reduce((sum, { packs }) => sum + packs.bytes, 0),
    },
    removed: {
      points: [...new Set(all.flatMap(({ points }) => points))],
      packs: all.reduce((sum, { packs }) => sum + packs, 0),
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
    },
    locked: reports.map(({ locked }) => locked).reduce(joined, null),
    sparse: reports.map(({ sparse }) => sparse).reduce(addedSparse, { packs: 0, bytes: 0, needless: 0, newest: { packs: 0, bytes: 0 } }),
    waiting: [...reports, ...destroyed].flatMap(({ waiting }) => waiting),
    unclear: [],
  };
}

function joined(a: LockedPacks | null, b: LockedPacks | null): LockedPacks | null {
  if (a === null || b === null) return a ?? b;
  return { packs: a.packs + b.packs, bytes: a.bytes + b.bytes, until: a.until > b.until ? a.until : b.until };
}

function addedSparse(a: SparsePacks, b: SparsePacks): SparsePacks {
  const newest = { packs: a.newest.packs + b.newest.packs, bytes: a.newest.bytes + b.newest.bytes };
  return { packs: a.packs + b.packs, bytes: a.bytes + b.bytes, needless: a.needless + b.needless, newest };
}
