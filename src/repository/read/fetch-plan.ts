import type { Reference } from "../format/reference.ts";

/** Frames no further apart in a pack than this are fetched in one request: a request costs more than so many bytes. */
export const FETCH_GAP: number = 32 * 1024;

/** One request: a stretch of a pack, and where in the window it goes. */
export interface Fetch {
  readonly pack: string;
  readonly offset: number;
  readonly length: number;
  readonly at: number;
}

export interface FetchPlan {
  readonly fetches: readonly Fetch[];
  /** for each reference, in the order given: its place in the window and the fetch that brings it */
  readonly places: readonly { readonly at: number; readonly fetch: number }[];
  readonly length: number;
}

/** Lays the frames of a window out so that neighbours in a pack come with one request. */
export function planFetches(references: readonly Reference[], gap: number = FETCH_GAP): FetchPlan {
  const order = references.map((reference, i) => ({ reference, i })).toSorted((a, b) => byPlaceInPack(a.reference, b.reference));
  const fetches: { pack: string; offset: number; length: number; at: number }[] = [];
  const places: { at: number; fetch: number }[] = Array.from({ length: references.length });
  let length = 0;
  for (const { reference, i } of order) {
    let last = fetches.at(-1);
    const end = reference.offset + reference.length;
    if (last === undefined || last.pack !== reference.pack || reference.offset - (last.offset + last.length) > gap) {
      last = { pack: reference.pack, offset: reference.offset, length: 0, at: length };
      fetches.push(last);
    }
    const longer = Math.max(last.length, end - last.offset);
    length += longer - last.length;
    last.length = longer;
    places[i] = { at: last.at + reference.offset - last.offset, fetch: fetches.length - 1 };
  }
  return { fetches, places, length };
}

/** Orders references by pack, then by place in it. */
export function byPlaceInPack(a: Reference, b: Reference): number {
  if (a.pack === b.pack) return a.offset - b.offset;
  return a.pack < b.pack ? -1 : 1;
}
