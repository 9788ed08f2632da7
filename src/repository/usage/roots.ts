import { mapConcurrently } from "../../lib/concurrency.ts";
import { missingBelow } from "../catalog.ts";
import { FORGOTTEN, parsePointKey, pointId, POINTS } from "../layout.ts";
import { Holds } from "../holds.ts";
import type { Repository } from "../repository.ts";
import { isRoot } from "../rules.ts";

const PARALLEL_LOOKS = 32;

/** A point as prune sees it. */
export interface PlacedPoint {
  readonly id: string;
  readonly vmId: string;
  readonly seq: number;
  readonly forgotten: boolean;
}

/** Points that count, by machine and each machine's oldest first, and those that do not any more. */
export interface Roots {
  readonly machines: readonly (readonly PlacedPoint[])[];
  /** forgotten for so long that they count no more, and still there */
  readonly gone: readonly PlacedPoint[];
  /** forgotten, and counting for a while yet */
  readonly forgotten: number;
  /** forgotten and held */
  readonly held: number;
  /** ids of points that were committed, that nobody has forgotten or that are held, and that no list shows */
  readonly missing: readonly string[];
}

/**
 * Which points count at a time: those that nobody has forgotten, those forgotten a short while ago, and those that are held. One list is all that
 * is believed of each, and of holds not even that: what a list that came back short leaves out is missing, and not unneeded.
 */
export async function findRoots({ store, catalog }: Repository, at: Date, signal: AbortSignal): Promise<Roots> {
  // The heads first: what is committed meanwhile is then in the list and not in them.
  const heads = await catalog.heads(signal);
  const forgotten = await placesBelow(FORGOTTEN, { store, catalog }, signal);
  const marked = new Map(forgotten.map(({ suffix, since }) => [suffix, since]));
  const holds = new Holds(store);
  const held = new Set(await holds.list({ signal }));
  // What is held is there, forgotten or not.
  const given = forgotten.filter(({ vmId, seq }) => !held.has(pointId(vmId, seq)));
  const known = new Known(heads, given);
  const machines = new Map<string, PlacedPoint[]>();
  const gone: PlacedPoint[] = [];
  const counts = { forgotten: 0, held: 0 };
  const listed = await placesBelow(POINTS, { store, catalog }, signal);
  const isPast = (suffix: string): boolean => !isRoot(marked.get(suffix) ?? Infinity, at.getTime());
  // Of what is to go the store is asked itself: a hold that a list left out holds all the same.
  await mapConcurrently(
    listed.filter(({ suffix }) => isPast(suffix)),
    PARALLEL_LOOKS,
    async ({ vmId, seq }) => {
      const id = pointId(vmId, seq);
      if (!held.has(id) && (await holds.has(id, signal))) held.add(id);
    },
  );
  for (const { suffix, vmId, seq } of listed) {
    const point = { id: pointId(vmId, seq), vmId, seq, forgotten: marked.has(suffix) };
    known.add(point);
    const isHeld = held.has(point.id);
    if (isPast(suffix) && !isHeld) {
      gone.push(point);
      continue;
    }
    if (point.forgotten) counts[isHeld ? "held" : "forgotten"] += 1;
    const others = machines.get(vmId);
    if (others === undefined) machines.set(vmId, [point]);
    else others.push(point);
  }
  const ordered = [...machines.values()].map((points) => points.toSorted((a, b) => a.seq - b.seq));
  return { machines: ordered, gone, ...counts, missing: known.missing() };
}

/** Where points of this domain's machines lie, or what stands for them. */
async function placesBelow(
  prefix: string,
  { store, catalog }: Pick<Repository, "store" | "catalog">,
  signal: AbortSignal,
): Promise<readonly { readonly suffix: string; readonly vmId: string; readonly seq: number; readonly since: number }[]> {
  const places: { suffix: string; vmId: string; seq: number; since: number }[] = [];
  for await (const { key, modified } of store.list(prefix, { signal })) {
    const place = parsePointKey(key);
    if (place !== null) places.push({ suffix: key.slice(prefix.length), ...place, since: modified.getTime() });
  }
  return await catalog.mine(places, ({ vmId }) => vmId, signal);
}

/** Numbers that were given to points: none is left out, and none goes before it was given up. */
class Known {
  readonly #last: Map<string, number>;
  readonly #there = new Map<string, Set<number>>();

  constructor(heads: ReadonlyMap<string, number>, given: readonly { readonly vmId: string; readonly seq: number }[]) {
    this.#last = new Map(heads);
    for (const place of given) this.add(place);
  }

  add({ vmId, seq }: { readonly vmId: string; readonly seq: number }): void {
    const there = this.#there.get(vmId) ?? new Set();
    this.#there.set(vmId, there.add(seq));
    this.#last.set(vmId, Math.max(this.#last.get(vmId) ?? 0, seq));
  }

  missing(): string[] {
    return [...this.#last].flatMap(([vm, newest]) => missingBelow(newest, this.#there.get(vm)).map((seq) => pointId(vm, seq)));
  }
}
