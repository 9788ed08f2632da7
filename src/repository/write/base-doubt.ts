import type { DiskContent } from "../disk-content.ts";
import { GRANULE } from "../format/constants.ts";
import type { ImageMap } from "../map/image-map.ts";

/** Granules whose extents are asked for at once, at most: 1 GiB. */
const MAX_SPAN = 16_384;

/** How to find out whether a disk still is what its base image has where nothing is said to have changed. */
export interface BaseDoubt {
  readonly content: DiskContent;
  readonly base: ImageMap;
  /** bytes; from here on the base is not trusted anyway */
  readonly trusted: number;
  /** keyed hash of a granule's text */
  readonly hash: (text: Uint8Array) => Uint8Array;
  readonly signal: AbortSignal;
}

/**
 * Whether what counts as unchanged on a disk differs from its base. QEMU keeps a dirty bitmap when a disk shrinks and grows, running or not, and marks nothing
 * of what is lost and regrown. It is lost from the end, so the last granule with data that counts as unchanged tells of everything before it:
 * it is read and compared. Costs one granule, and a look at what is dirty behind it.
 */
export async function contradictsBase(doubt: BaseDoubt): Promise<boolean> {
  const { content, base, signal } = doubt;
  const granule = await lastUnchanged(doubt);
  const reference = granule === null ? null : await base.lookup(granule);
  if (granule === null || reference === null) return false;
  const text = new Uint8Array(GRANULE);
  const offset = granule * GRANULE;
  await content.read([{ offset, into: text.subarray(0, Math.min(GRANULE, content.size - offset)) }], signal);
  return !Buffer.from(doubt.hash(text)).equals(reference.hash);
}

/** The last granule that has data in the base and is wholly unchanged; null where there is none. */
async function lastUnchanged({ content, base, trusted, signal }: BaseDoubt): Promise<number | null> {
  let limit = Math.ceil(trusted / GRANULE);
  for (let span = 1; ; span = Math.min(span * 8, MAX_SPAN)) {
    let granule = await base.lastBefore(limit);
    if (granule === null) return null;
    const first = Math.max(0, granule + 1 - span);
    const changed = await changedGranules(content, { first, end: granule + 1 }, signal);
    for (; granule !== null && granule >= first; granule = await base.lastBefore(granule))
      if (changed[granule - first] === 0) return granule;
    limit = first;
  }
}

/** One byte for each granule, 1 where not all of it is clean. */
async function changedGranules(
  content: DiskContent,
  { first, end }: { readonly first: number; readonly end: number },
  signal: AbortSignal,
): Promise<Uint8Array> {
  const changed = new Uint8Array(end - first);
  const offset = first * GRANULE;
  const range = { offset, length: Math.min(end * GRANULE, content.size) - offset };
  for await (const extent of content.extents(signal, range)) {
    if (extent.state === "clean") continue;
    const last = Math.ceil((extent.offset + extent.length) / GRANULE);
    changed.fill(1, Math.floor(extent.offset / GRANULE) - first, last - first);
  }
  return changed;
}
