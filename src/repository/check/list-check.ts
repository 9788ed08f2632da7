import { randomInt } from "node:crypto";

import type { PointRecord } from "../format/point.ts";
import { packAt } from "../layout.ts";
import type { Repository } from "../repository.ts";
import type { PackUsage } from "../usage/pack-usage.ts";
import { reach, type Reached } from "../usage/reach.ts";
import { findRoots, type Roots } from "../usage/roots.ts";
import { listPacks, type StoredPacks } from "../usage/stored-packs.ts";
import type { CheckOptions, CheckReport } from "./check-repository.ts";
import { blame, type Finding } from "./finding.ts";
import { type NewestPoint, noteForBackups } from "./heal.ts";
import { checkPacks, type PackDamage } from "./pack-check.ts";
import { compareSums, type SumCounts } from "./sum-check.ts";

/** What is looked for with a probability of 95 %: of `n` packs read at random one at least is damaged where a share of `-ln(0.05)/n` of all is. */
const CONFIDENCE = -Math.log(0.05);

interface ListCheckOptions extends CheckOptions {
  /** percent of the packs that are read or compared besides, at random; 0: none */
  readonly sample: number;
  /** whether checksums that the store keeps are compared, instead of reading */
  readonly compare?: boolean;
}

/**
 * Whether all that any point needs is there, by lists alone: each point reads, each pack is stored and no shorter than what is needed of it. Costs
 * requests for the pages of the lists and two small ones for each point, where prune has been at work; else maps are read.
 */
export async function checkListed(repository: Repository, options: ListCheckOptions): Promise<CheckReport> {
  const { store, domain } = repository;
  const { signal } = options;
  const at = await store.now({ signal });
  const roots = await findRoots(repository, at, signal);
  const reached = await reach(repository, roots, { signal, keep: false });
  // A prune beside it may have removed forgotten points since they were listed.
  const unclear: Reached["unclear"][number][] = [];
  for (const one of reached.unclear) if (!(await repository.catalog.wasRemoved(one.id, signal))) unclear.push(one);
  // After the points: what they need was stored before them.
  const stored = await listPacks(store, { domain, at, signal });
  const damages = new Map<string, PackDamage>();
  for (const damage of missingOf(domain, reached, stored)) damages.set(damage.pack, damage);
  const needed = count(reached.packs.bytes.entries());
  const whole = needed - damages.size;
  const sampled = drawn(reached.packs, { skip: damages, of: whole, count: Math.ceil((whole * options.sample) / 100) });
  const looked = await lookAt(repository, sampled, options);
  for (const damage of looked.damages) damages.set(damage.pack, damage);
  const { findings, newest } = await blameAll(repository, { damages: [...damages.values()], roots, signal });
  const lost = [...roots.missing.map((id) => ({ id, reason: "it is missing" })), ...unclear].map(lostPoint);
  // Of a map that cannot be read nobody knows whose disks it is, and a backup may stand on it.
  const ofNobody = unclear.map(({ id }) => ({ id, vm: "" }));
  const said = { damages: [...damages.values()], findings: [...lost, ...findings], newest: [...newest, ...ofNobody] };
  const noted = await noteForBackups(repository, said, signal);
  return {
    points: reached.points,
    packs: needed,
    bytesRead: looked.bytesRead,
    findings: [...lost, ...findings],
    noted,
    ...(looked.sums === null ? {} : { sums: looked.sums }),
    ...(options.sample === 0 ? {} : { sample: { packs: looked.packs, detects: detectable(looked.packs, whole) } }),
  };
}

/** What reading these packs, or comparing their checksums, shows. `packs` is how many it could be done with. */
async function lookAt(
  repository: Repository,
  packs: readonly string[],
  options: ListCheckOptions,
): Promise<{ damages: PackDamage[]; bytesRead: number; packs: number; sums: SumCounts | null }> {
  if (options.compare !== true) return { ...(await checkPacks(repository, packs, options)), packs: packs.length, sums: null };
  const { damages, ...sums } = await compareSums(repository, packs, options);
  return { damages, bytesRead: 0, packs: sums.compared, sums };
}

function lostPoint({ id, reason }: { readonly id: string; readonly reason: string }): Finding {
  return { what: `point ${id}`, reason, points: [id], places: [] };
}

/** Packs that are needed and not stored, or too short. */
function* missingOf(domain: string, { packs }: Reached, { old, young }: StoredPacks): Generator<PackDamage, void, undefined> {
  for (const [pack, end] of packs.ends.entries()) {
    const size = Math.max(old.get(pack), young.get(pack));
    if (size >= end) continue;
    const reason = size === 0 ? "it is missing" : `it has ${size} bytes, and ${end} of it are needed: it is cut short`;
    yield { pack, key: packAt(domain, pack), offsets: null, reason };
  }
}

/** The share of damaged packs that so many read ones would have shown with some certainty; 0 where all are read. */
export function detectable(read: number, all: number): number {
  return read === all ? 0 : Math.min(1, CONFIDENCE / Math.max(1, read));
}

/** So many of the packs at random, each set of that many as likely as any other; they may be too many to be gathered first. */
function drawn(
  { bytes }: PackUsage,
  { skip, of, count: wanted }: { readonly skip: ReadonlyMap<string, unknown>; readonly of: number; readonly count: number },
): string[] {
  const found: string[] = [];
  let left = of;
  for (const [pack] of bytes.entries()) {
    if (found.length === wanted) break;
    if (skip.has(pack)) continue;
    if (randomInt(left) < wanted - found.length) found.push(pack);
    left -= 1;
  }
  return found;
}

function count(all: Iterable<unknown>): number {
  let sum = 0;
  for (const _ of all) sum += 1;
  return sum;
}

/** A second walk over the points finds out whose packs the damaged ones are; there is none where nothing is damaged. */
async function blameAll(
  repository: Repository,
  { damages, roots, signal }: { readonly damages: readonly PackDamage[]; readonly roots: Roots; readonly signal: AbortSignal },
): Promise<{ readonly findings: Finding[]; readonly newest: readonly NewestPoint[] }> {
  if (damages.length === 0) return { findings: [], newest: [] };
  const newest = new Map<string, NewestPoint & { readonly seq: number }>();
  const forgotten = new Set(roots.machines.flatMap((points) => points.filter((one) => one.forgotten).map(({ id }) => id)));
  const users = new Map<string, Map<string, PointRecord>>(damages.map(({ pack }) => [pack, new Map()]));
  const onUse = (point: PointRecord, usage: PackUsage): void => {
    const { id, seq, vm } = point;
    // Of points that can be stood on.
    if (!forgotten.has(id) && seq >= (newest.get(vm.name)?.seq ?? 0)) newest.set(vm.name, { id, seq, vm: vm.name });
    for (const [pack, points] of users) if (usage.bytes.get(pack) > 0) points.set(point.id, point);
  };
  await reach(repository, roots, { signal, keep: false, onUse });
  const findings: Finding[] = [];
  for (const damage of damages) {
    const candidates = [...(users.get(damage.pack)?.values() ?? [])];
    findings.push(await blame(repository, damage, { candidates, signal }));
  }
  return { findings, newest: [...newest.values()] };
}
