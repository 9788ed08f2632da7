import { mapConcurrently } from "../../lib/concurrency.ts";
import type { ObjectStore } from "../../objectstore/index.ts";
import type { Tombstone } from "../domains/tombstone.ts";
import { Holds } from "../holds.ts";
import {
  damageAt,
  domainKeyAt,
  domainNameAt,
  headAt,
  hintsAt,
  locksAt,
  marksOf,
  packAt,
  parsePointKey,
  pointId,
  POINTS,
  sparsesOf,
  sumsOf,
  usagesOf,
} from "../layout.ts";
import { GRACE_MS, isRoot, mayRemove } from "../rules.ts";
import { isThere } from "../try-get.ts";
import { listPacks } from "../usage/stored-packs.ts";
import { type PruneOptions, sumOf, type WaitingPacks } from "./plan.ts";
import { explain } from "./sweep.ts";

const PARALLEL_DELETES = 16;

/** What a prune did about a domain that was destroyed. */
export interface Cleared {
  readonly domain: string;
  /** when it was destroyed */
  readonly time: string;
  /** in the bucket before it */
  readonly packs: { readonly stored: number; readonly bytes: number };
  readonly removed: { readonly points: readonly string[]; readonly packs: number; readonly bytes: number };
  readonly waiting: readonly WaitingPacks[];
  /** ids of points of it that somebody holds: while there are any, nothing of it goes */
  readonly held: readonly string[];
}

/**
 * Removes what nobody can read any more, by the same times as if all of the domain's points had been forgotten when it was destroyed: points after
 * 30 hours, packs after 60. No mark is needed: nothing can come to refer to them.
 */
export async function clearDestroyed(store: ObjectStore, { id, name, time, machines }: Tombstone, options: PruneOptions): Promise<Cleared> {
  const { signal, dryRun = false } = options;
  const [at, since] = [await store.now({ signal }), Date.parse(time)];
  const { old, count, bytes } = await listPacks(store, { domain: id, at, signal });
  const nothing = { domain: name, time, packs: { stored: count, bytes }, removed: { points: [], packs: 0, bytes: 0 } };
  const all = { packs: count, bytes };
  const held = await new Holds(store).of(machines, signal);
  if (held.length > 0) return { ...nothing, waiting: [], held };
  // It may be back since it was looked for.
  if (await isThere(store, domainKeyAt(id), signal)) return { ...nothing, waiting: [], held };
  if (isRoot(since, at.getTime())) return { ...nothing, waiting: waits(all, new Date(since + 2 * GRACE_MS)), held };
  const remove = async (keys: readonly string[]): Promise<void> => {
    if (!dryRun) await mapConcurrently(keys, PARALLEL_DELETES, async (key) => await store.delete(key, { signal }).catch(explain));
  };
  const points = await pointsOf(store, machines, signal);
  await remove(points.map(({ key }) => key));
  await remove(machines.map(headAt));
  await remove([
    hintsAt(id),
    damageAt(id),
    locksAt(id),
    ...(await keysBelow(store, [usagesOf(id), marksOf(id), sumsOf(id), sparsesOf(id)], signal)),
  ]);
  const removable = mayRemove(since + GRACE_MS, at.getTime()) ? sumOf(old) : { packs: 0, bytes: 0 };
  const removed = { points: points.map((one) => one.id), ...removable };
  if (removable.packs > 0) await remove([...old.entries()].map(([pack]) => packAt(id, pack)));
  const left = { packs: count - removable.packs, bytes: bytes - removable.bytes };
  if (left.packs === 0) await remove([domainNameAt(id)]);
  const until = new Date(Math.max(since + 2 * GRACE_MS, removable.packs > 0 ? at.getTime() + GRACE_MS : 0));
  return { ...nothing, removed, waiting: waits(left, until), held };
}

async function pointsOf(
  store: ObjectStore,
  machines: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly id: string; readonly key: string }[]> {
  const vms = new Set(machines);
  const found: { id: string; key: string }[] = [];
  for await (const { key } of store.list(POINTS, { signal })) {
    const place = parsePointKey(key);
    if (place !== null && vms.has(place.vmId)) found.push({ id: pointId(place.vmId, place.seq), key });
  }
  return found;
}

async function keysBelow(store: ObjectStore, prefixes: readonly string[], signal: AbortSignal): Promise<string[]> {
  const keys: string[] = [];
  for (const prefix of prefixes) for await (const { key } of store.list(prefix, { signal })) keys.push(key);
  return keys;
}

function waits(left: { readonly packs: number; readonly bytes: number }, until: Date): WaitingPacks[] {
  return left.packs === 0 ? [] : [{ ...left, why: "destroyed", until }];
}
