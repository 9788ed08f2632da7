import type { DiskContent, Extent } from "../disk-content.ts";
import { GRANULE } from "../format/constants.ts";
import type { ImageMap } from "../map/image-map.ts";

/** Granules looked at before everything is doubted: so many at the end of the data may have been written to since. */
const LOOKS = 256;

/**
 * Whether unchanged parts of a disk may be zeros now though its base has data there: QEMU keeps a dirty bitmap when a disk shrinks and grows, running or not, and
 * marks nothing of what is lost and regrown. It is lost from the end, so where the last granule of the base that counts as unchanged is still there,
 * everything before it is as well.
 */
export async function mayHaveShrunk(content: DiskContent, base: ImageMap, signal: AbortSignal): Promise<boolean> {
  let limit = Math.ceil(content.size / GRANULE);
  for (let looks = 0; looks < LOOKS; looks++) {
    const granule = await base.lastBefore(limit);
    if (granule === null) return false;
    const states = await statesOf(content, granule, signal);
    if (states.has("blank")) return true;
    if (states.has("clean")) return false;
    limit = granule;
  }
  return true;
}

async function statesOf(content: DiskContent, granule: number, signal: AbortSignal): Promise<ReadonlySet<Extent["state"]>> {
  const offset = granule * GRANULE;
  const range = { offset, length: Math.min(GRANULE, content.size - offset) };
  const states = new Set<Extent["state"]>();
  for await (const { state } of content.extents(signal, { range, doubtClean: true })) states.add(state);
  return states;
}
