import { mapConcurrently } from "../lib/concurrency.ts";
import { isLoss, type PointOrigin, type PointRecord, pointDamaged, type Repository, RepositoryError } from "../repository/index.ts";
import { CopyError } from "./errors.ts";

const PARALLEL_READS = 32;

/** Which points: those named, those of some machines, or all there are. */
export type Wanted = { readonly points: readonly string[] } | { readonly vms: readonly string[] } | "all";

export interface PassedOver {
  readonly id: string;
  /** `there`: the target has it, perhaps forgotten; `older`: the target's points of the machine go on after it already */
  readonly why: "there" | "older";
  /** whether it was asked for by its id */
  readonly named: boolean;
}

/** What to do about one machine. */
export interface MachinePlan {
  readonly vm: string;
  /** in this order */
  readonly todo: readonly PointRecord[];
  readonly passedOver: readonly PassedOver[];
  /** where the machine's next point goes in the target, as it was before the target was looked through */
  readonly nextSeq: number;
  /** points that both repositories have and neither has forgotten, the newest first: what a copy can stand on */
  readonly shared: readonly SharedPoint[];
}

export interface SharedPoint {
  readonly source: PointRecord;
  readonly target: PointRecord;
}

export interface CopyPlan {
  readonly machines: readonly MachinePlan[];
  readonly unreadable: readonly { readonly id: string; readonly error: Error }[];
}

/** Where a point was taken, whatever it was copied through. */
export function originOf({ id, origin }: PointRecord, { config }: Repository): PointOrigin {
  return origin ?? { repository: config.id.toString("hex"), point: id };
}

/** Tells points apart, with their time: a repository that was set back to an older copy of its objects gives the ids of later points once more. */
function identityOf(point: PointRecord, of: Repository): string {
  return `${placeOf(point, of)} ${point.time}`;
}

function placeOf(point: PointRecord, of: Repository): string {
  const { repository, point: id } = originOf(point, of);
  return `${repository}/${id}`;
}

/** Looks through both catalogs. Rejects where a point or machine that was named is not there. */
export async function planCopy(from: Repository, to: Repository, wanted: Wanted, signal: AbortSignal): Promise<CopyPlan> {
  if (from.config.id.equals(to.config.id)) {
    throw new CopyError(
      "same-repository",
      `${from.store.url} and ${to.store.url} are the same repository, or one is a copy of the other's objects`,
      {
        hint: "Copy into a repository of its own: make one with `thinstream init`",
      },
    );
  }
  const named = typeof wanted === "object" && "points" in wanted ? new Set(wanted.points) : null;
  const { machines, unreadable } = await findMachines(from, wanted, signal);
  const gone = named === null ? await from.catalog.missing(signal) : [];
  const plans: MachinePlan[] = [];
  const there = new Set<string>();
  for (const [vm, points] of machines) {
    const { nextSeq, targets, forgotten } = await targetsOf(to, vm, signal);
    plans.push({ ...planMachine({ vm, points, targets, forgotten, named, from, to }), nextSeq });
    for (const target of targets) there.add(placeOf(target, to));
  }
  const vmIds = wanted === "all" ? null : new Set([...machines.values()].flatMap((points) => points.map(({ id }) => vmOf(id))));
  const lost = gone.filter((id) => vmIds?.has(vmOf(id)) !== false && !there.has(`${from.config.id.toString("hex")}/${id}`));
  return { machines: plans, unreadable: [...unreadable, ...lost.map((id) => ({ id, error: missing(id, from) }))] };
}

function vmOf(id: string): string {
  return id.split("-", 1)[0] ?? "";
}

function missing(id: string, { store }: Repository): RepositoryError {
  return new RepositoryError("point-damaged", `The restore point ${id} is missing from ${store.url}, though nobody has forgotten it`, {
    hint: "Bring the object back from an older version of the bucket; if that cannot be, `thinstream forget --point` ends the search for it",
  });
}

/** What the target has of a machine, forgotten or not. A list may come from before the newest points: those are asked for one by one. */
async function targetsOf(
  { catalog }: Repository,
  vm: string,
  signal: AbortSignal,
): Promise<Pick<Machine, "targets" | "forgotten"> & Pick<MachinePlan, "nextSeq">> {
  const { vmId, nextSeq } = await catalog.lineage(vm, { depth: 0, signal });
  const { points, forgotten, unreadable } = await catalog.list({ vm, withForgotten: true, signal });
  const listed = new Set([...[...points, ...unreadable].map(({ id }) => id), ...forgotten]);
  const ids = Array.from({ length: nextSeq - 1 }, (_, i) => `${vmId}-${i + 1}`).filter((id) => !listed.has(id));
  const unlisted = await mapConcurrently(ids, PARALLEL_READS, async (id) => await tryPoint(catalog, id, signal));
  return { nextSeq, forgotten, targets: [...points, ...unlisted.filter((point) => point !== null)] };
}

async function tryPoint(catalog: Repository["catalog"], id: string, signal: AbortSignal): Promise<PointRecord | null> {
  try {
    return await catalog.point(id, signal);
  } catch (thrown) {
    if (isLoss(thrown) || (thrown instanceof RepositoryError && thrown.code === "point-unknown")) return null;
    throw thrown;
  }
}

async function findMachines(
  { catalog, store }: Repository,
  wanted: Wanted,
  signal: AbortSignal,
): Promise<{ readonly machines: ReadonlyMap<string, readonly PointRecord[]>; readonly unreadable: CopyPlan["unreadable"] }> {
  const named = typeof wanted === "object" && "points" in wanted;
  const vms = wanted === "all" ? [undefined] : named ? await machinesOf(catalog, wanted.points, signal) : wanted.vms;
  const [found, unreadable]: [PointRecord[], { id: string; error: Error }[]] = [[], []];
  for (const vm of new Set(vms)) {
    const listing = await catalog.list({ signal, ...(vm === undefined ? {} : { vm }) });
    if (vm !== undefined && listing.points.length === 0 && listing.unreadable.length === 0) {
      throw new CopyError("no-points", `There are no restore points of ${vm} in ${store.url}`, {
        hint: "`thinstream points` lists what there is",
      });
    }
    found.push(...listing.points);
    if (!named) unreadable.push(...listing.unreadable.map(({ id, error }) => ({ id, error: pointDamaged(id, error) })));
  }
  return { machines: Map.groupBy(found, ({ vm }) => vm.name), unreadable };
}

async function machinesOf(catalog: Repository["catalog"], ids: readonly string[], signal: AbortSignal): Promise<string[]> {
  const names: string[] = [];
  for (const id of ids) names.push((await catalog.livePoint(id, signal)).vm.name);
  return names;
}

interface Machine {
  readonly vm: string;
  readonly points: readonly PointRecord[];
  readonly targets: readonly PointRecord[];
  /** ids of targets */
  readonly forgotten: ReadonlySet<string>;
  readonly named: ReadonlySet<string> | null;
  readonly from: Repository;
  readonly to: Repository;
}

/**
 * Points go in the order they were taken, each after those that are there: a point behind a younger one would take its machine out of retention, and
 * one that was forgotten in the target is not brought back.
 */
function planMachine({ vm, points, targets, forgotten, named, from, to }: Machine): Omit<MachinePlan, "nextSeq"> {
  const there = new Map(targets.map((target) => [identityOf(target, to), target]));
  const sources = points.toSorted((a, b) => a.seq - b.seq);
  const known = new Set(sources.map((source) => identityOf(source, from)));
  const newest = sources.findLastIndex((source) => there.has(identityOf(source, from)));
  const strangers = targets.filter((target) => !forgotten.has(target.id) && !known.has(identityOf(target, to)));
  const latest = strangers.reduce((time, target) => Math.max(time, Date.parse(target.time)), Number.NEGATIVE_INFINITY);
  const [todo, passedOver]: [PointRecord[], PassedOver[]] = [[], []];
  for (const [i, source] of sources.entries()) {
    if (named !== null && !named.has(source.id)) continue;
    const isNamed = named !== null;
    if (there.has(identityOf(source, from))) passedOver.push({ id: source.id, why: "there", named: isNamed });
    else if (i < newest || Date.parse(source.time) < latest) passedOver.push({ id: source.id, why: "older", named: isNamed });
    else todo.push(source);
  }
  const shared = sources.toReversed().flatMap((source) => {
    const target = there.get(identityOf(source, from));
    return target === undefined || forgotten.has(target.id) ? [] : [{ source, target }];
  });
  return { vm, todo, passedOver, shared };
}
