import { GRANULE } from "../format/constants.ts";
import { RepositoryError } from "../errors.ts";
import type { ByteRange, Extent } from "../disk-content.ts";

/** A run of granules that must be recorded anew. Granules that are clean throughout are not mentioned. */
export interface GranuleRun {
  readonly kind: "data" | "zero";
  /** index of the first granule */
  readonly first: number;
  readonly count: number;
  /** For a single granule that is only partly data: what to read of it, bytes of the disk; the rest is zeros. Null: all of it. */
  readonly parts: readonly ByteRange[] | null;
}

/** Largest run of data granules given at once: so much is read ahead in one piece. */
const MAX_DATA_RUN = 1024;

/**
 * Turns a disk's extents, of any alignment, into runs of whole granules. A granule is zero only if all of it is, clean only if all of it is.
 * Rejects extents with a gap, an overlap or a wrong end: what is not known to be clean must never be taken for it.
 */
export async function* granuleRuns(extents: AsyncIterable<Extent>, size: number): AsyncGenerator<GranuleRun, void, undefined> {
  let expected = 0;
  const mixed: Extent[] = [];
  for await (const extent of extents) {
    requireNext(extent, expected, size);
    expected += extent.length;
    yield* split(extent, size, mixed);
  }
  if (expected !== size) throw new RepositoryError("invalid", `Extents of the disk end at ${expected}, the disk at ${size}`);
}

/** Calls `clean` extents `data` from `limit` on: where a base image cannot vouch for them. */
export async function* distrustFrom(extents: AsyncIterable<Extent>, limit: number): AsyncGenerator<Extent, void, undefined> {
  for await (const extent of extents) {
    const end = extent.offset + extent.length;
    if (extent.state !== "clean" || end <= limit) {
      yield extent;
    } else {
      if (extent.offset < limit) yield { offset: extent.offset, length: limit - extent.offset, state: "clean" };
      const offset = Math.max(extent.offset, limit);
      yield { offset, length: end - offset, state: "data" };
    }
  }
}

function requireNext(extent: Extent, expected: number, size: number): void {
  if (extent.offset === expected && extent.length > 0 && extent.offset + extent.length <= size) return;
  throw new RepositoryError(
    "invalid",
    `Extents of the disk do not meet: one begins at ${extent.offset} with ${extent.length} bytes where ${expected} was expected`,
  );
}

/** Cuts one extent at granule borders; what shares a granule with its neighbours gathers in `mixed` until the granule is complete. */
function* split(extent: Extent, size: number, mixed: Extent[]): Generator<GranuleRun, void, undefined> {
  const end = extent.offset + extent.length;
  const { state } = extent;
  let at = extent.offset;
  while (at < end) {
    const wholeEnd = end - (end % GRANULE);
    if (at % GRANULE === 0 && wholeEnd > at) {
      yield* wholeGranules({ offset: at, length: wholeEnd - at, state });
      at = wholeEnd;
      continue;
    }
    const granuleEnd = Math.min(at - (at % GRANULE) + GRANULE, size);
    const to = Math.min(end, granuleEnd);
    mixed.push({ offset: at, length: to - at, state });
    if (to === granuleEnd) yield* mixedGranule(mixed.splice(0));
    at = to;
  }
}

function* mixedGranule(parts: readonly Extent[]): Generator<GranuleRun, void, undefined> {
  if (parts.every((part) => part.state === "clean")) return;
  const first = Math.floor((parts[0]?.offset ?? 0) / GRANULE);
  if (parts.every(({ state }) => state === "zero")) yield { kind: "zero", first, count: 1, parts: null };
  else yield { kind: "data", first, count: 1, parts: joined(parts.filter(({ state }) => state !== "zero")) };
}

function joined(parts: readonly ByteRange[]): ByteRange[] {
  const ranges: { offset: number; length: number }[] = [];
  for (const { offset, length } of parts) {
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else ranges.push({ offset, length });
  }
  return ranges;
}

function* wholeGranules(body: Extent): Generator<GranuleRun, void, undefined> {
  if (body.state === "clean") return;
  const first = body.offset / GRANULE;
  const count = body.length / GRANULE;
  if (body.state === "zero") yield { kind: "zero", first, count, parts: null };
  else
    for (let at = 0; at < count; at += MAX_DATA_RUN)
      yield { kind: "data", first: first + at, count: Math.min(MAX_DATA_RUN, count - at), parts: null };
}
