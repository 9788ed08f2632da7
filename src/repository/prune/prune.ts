import { readLockBook } from "../lock/book.ts";
import { timeOf } from "../lock/due.ts";
import type { Repository } from "../repository.ts";
import { type Plan, Pruning, type PruneOptions, sumOf, type WaitingPacks } from "./plan.ts";
import { type SparsePacks, sumUp } from "./sparse.ts";
import { Sweep } from "./sweep.ts";

export interface PruneReport {
  /** when the mark began, by the store's clock */
  readonly at: Date;
  /** points that count; of them forgotten less than 30 h ago, and forgotten but held */
  readonly points: { readonly counted: number; readonly forgotten: number; readonly held: number };
  readonly packs: { readonly stored: number; readonly bytes: number };
  /** what was removed, or would be in a dry run */
  readonly removed: { readonly points: readonly string[]; readonly packs: number; readonly bytes: number };
  /** Of the packs that were removed, those whose bytes the store keeps until a lock is over, as far as is known; null where none is. */
  readonly locked: LockedPacks | null;
  readonly waiting: readonly WaitingPacks[];
  /** packs of which little is needed, which the next backups make free */
  readonly sparse: SparsePacks;
  /** Why no pack may be given up at all: points of which it cannot be said what they refer to. */
  readonly unclear: readonly { readonly id: string; readonly reason: string }[];
}

/** Packs under a lock. */
export interface LockedPacks {
  readonly packs: number;
  readonly bytes: number;
  /** the last end of their locks */
  readonly until: Date;
}

/** Removes what no restore point refers to, by the rules of FORMAT.md §11. May be ended at any moment and begun again, also beside another one. */
export async function prune(repository: Repository, options: PruneOptions): Promise<PruneReport> {
  const plan = await new Pruning(repository, options).plan();
  if (options.dryRun !== true) await new Sweep(repository, options).carryOut(plan);
  return reportOf(plan, await stillLocked(repository, plan, options.signal));
}

/** What runs of `lock` have written down of packs that go. */
export async function stillLocked(repository: Repository, { at, removable }: Plan, signal: AbortSignal): Promise<LockedPacks | null> {
  if (sumOf(removable).packs === 0) return null;
  const book = await readLockBook(repository, signal);
  const found = { packs: 0, bytes: 0, until: at };
  for (const [pack, bytes] of book === null ? [] : removable.entries()) {
    const until = timeOf(book?.get(pack) ?? 0);
    if (until <= at) continue;
    found.packs += 1;
    found.bytes += bytes;
    if (until > found.until) found.until = until;
  }
  return found.packs === 0 ? null : found;
}

export function reportOf(
  { at, roots, stored, reached, removable, waiting, needless, unclear }: Plan,
  locked: LockedPacks | null,
): PruneReport {
  return {
    at,
    points: { counted: reached.points, forgotten: roots.forgotten, held: roots.held },
    packs: { stored: stored.count, bytes: stored.bytes },
    removed: { points: roots.gone.map(({ id }) => id), ...sumOf(removable) },
    locked,
    waiting,
    sparse: sumUp(needless, stored, reached),
    unclear,
  };
}
