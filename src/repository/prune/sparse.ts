import { mapConcurrently } from "../../lib/concurrency.ts";
import { RepositoryError } from "../errors.ts";
import { PackNumbers } from "../format/pack-numbers.ts";
import { sparseAt, sparsesOf } from "../layout.ts";
import { isLoss } from "../map/image-map.ts";
import type { Repository } from "../repository.ts";
import { writeSparse } from "../sparse.ts";
import type { PackUsage } from "../usage/pack-usage.ts";
import type { Reached } from "../usage/reach.ts";
import type { PlacedPoint, Roots } from "../usage/roots.ts";
import type { StoredPacks } from "../usage/stored-packs.ts";
import { unlessFull, UsageIndex } from "../usage/usage-index.ts";

/** Share of a pack below which what is needed of it is worth storing again. */
const SPARSE = 0.3;
/** Nothing is asked of a disk for less than this share of what it needs: its map is a thousandth of that, and is read for it. */
const WORTHWHILE = 1 / 64;
const PARALLEL = 8;

/** What is held needlessly, and for how long. */
export interface SparsePacks {
  readonly packs: number;
  readonly bytes: number;
  /** of these bytes those that no point needs */
  readonly needless: number;
  /** packs that machines' newest points still need, and the bytes they need of them: what the next backups store again */
  readonly newest: { readonly packs: number; readonly bytes: number };
}

/** Of each old pack of which little is needed, the bytes that nobody needs. */
export function findSparse({ old }: StoredPacks, { packs }: Reached): PackNumbers {
  const needless = new PackNumbers();
  for (const [pack, size] of old.entries()) {
    const needed = packs.bytes.get(pack);
    if (needed > 0 && needed < size * SPARSE) needless.set(pack, size - needed);
  }
  return needless;
}

export function sumUp(needless: PackNumbers, { old }: StoredPacks, { newest }: Reached): SparsePacks {
  const sum = { packs: 0, bytes: 0, needless: 0, newest: { packs: 0, bytes: 0 } };
  for (const [pack, bytes] of needless.entries()) {
    const needed = newest.get(pack);
    sum.packs += 1;
    sum.bytes += old.get(pack);
    sum.needless += bytes;
    sum.newest.packs += needed > 0 ? 1 : 0;
    sum.newest.bytes += needed;
  }
  return sum;
}

/** Tells the next backup of each machine which packs it need not stand on any more, in place of what it was told before. */
export async function noteSparse(
  repository: Repository,
  { roots, needless, signal }: { readonly roots: Roots; readonly needless: PackNumbers; readonly signal: AbortSignal },
): Promise<void> {
  const noted = new Set<string>();
  const usages = new UsageIndex(repository, { signal, keep: true });
  const isAny = needless.entries().next().done !== true;
  await mapConcurrently(isAny ? roots.machines : [], PARALLEL, async (points) => {
    const newest = points.at(-1);
    const record = newest === undefined ? new Map<string, never>() : await recordOf(repository, newest, { needless, usages, signal });
    if (newest === undefined || record.size === 0) return;
    noted.add(newest.vmId);
    await writeSparse(repository, newest.vmId, { record, signal }).catch(unlessFull);
  });
  const { store, domain } = repository;
  const prefix = sparsesOf(domain);
  const stale: string[] = [];
  for await (const { key } of store.list(prefix, { signal })) {
    const vmId = key.slice(prefix.length);
    if (/^[0-9a-f]{12}$/.test(vmId) && !noted.has(vmId)) stale.push(vmId);
  }
  await mapConcurrently(stale, PARALLEL, async (vmId) => await store.delete(sparseAt(domain, vmId), { signal }));
}

interface Looking {
  readonly needless: PackNumbers;
  readonly usages: UsageIndex;
  readonly signal: AbortSignal;
}

async function recordOf(
  repository: Repository,
  { id }: PlacedPoint,
  { needless, usages, signal }: Looking,
): Promise<Map<string, string[]>> {
  const record = new Map<string, string[]>();
  try {
    const { disks } = await repository.catalog.point(id, signal);
    for (const { name, size, root } of disks) {
      const packs = root === null ? [] : worthwhile(await usages.of({ size, root }, null), needless);
      if (packs.length > 0) record.set(name, packs);
    }
  } catch (thrown) {
    signal.throwIfAborted();
    // It was there when its needs were added up. What it says now is for the next prune to find out.
    if (!isLoss(thrown) && !(thrown instanceof RepositoryError)) throw thrown;
  }
  return record;
}

/** The sparse packs that an image needs, first those that give most for what is to be stored again. */
function worthwhile({ bytes }: PackUsage, needless: PackNumbers): string[] {
  const found: { readonly pack: string; readonly ratio: number }[] = [];
  let [all, gain] = [0, 0];
  for (const [pack, needed] of bytes.entries()) {
    const idle = needless.get(pack);
    all += needed;
    gain += idle;
    if (idle > 0) found.push({ pack, ratio: needed / idle });
  }
  return gain < all * WORTHWHILE ? [] : found.toSorted((a, b) => a.ratio - b.ratio).map(({ pack }) => pack);
}
