import { BoundedQueue } from "../../lib/bounded-queue.ts";
import type { DiskContent, ReadRequest } from "../disk-content.ts";
import { BATCH, MAX_REFERENCES, Outcome, type Slot } from "../crunch/slot.ts";
import type { SlotPool } from "../crunch/slot-pool.ts";
import type { ThreadPool } from "../crunch/thread-pool.ts";
import { Codec, FANOUT, FrameKind, GRANULE } from "../format/constants.ts";
import { damaged } from "../format/errors.ts";
import { rootLevel } from "../format/node.ts";
import type { DiskStats } from "../format/point.ts";
import type { Reference } from "../format/reference.ts";
import { distrustFrom, type GranuleRun, granuleRuns } from "../map/granules.ts";
import { ImageMap, type ImageRoot, isLoss } from "../map/image-map.ts";
import type { NodeReader } from "../map/node-reader.ts";
import type { TreeBuilder } from "../map/tree-builder.ts";
import type { Again, Compaction } from "./compaction.ts";
import type { PackStream } from "./pack-stream.ts";
import type { RecentGranules } from "./recent-granules.ts";

export interface DiskWriterOptions {
  readonly runId: Uint8Array;
  readonly codec: Codec;
  readonly slots: SlotPool;
  readonly threads: ThreadPool;
  readonly data: PackStream;
  readonly recent: RecentGranules;
  readonly tree: TreeBuilder;
  readonly nodes: NodeReader;
  /** image that `clean` extents refer to; null when there can be none */
  readonly base: ImageRoot | null;
  /** images that new granules are compared with, best first; at most three */
  readonly references: readonly ImageMap[];
  /** Where what is compared with is damaged in part: what cannot be taken over. Null where all of it is believed. */
  readonly isLost: ((reference: Reference) => boolean) | null;
  /** What of those images is stored again rather than taken over; null: nothing. */
  readonly compaction: Compaction | null;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: DiskProgress) => void;
}

export interface DiskProgress {
  /** bytes of the disk dealt with so far, from its start */
  readonly position: number;
  readonly readBytes: number;
}

/** What is recorded without a look at the disk: zeros, and nodes of the map that are written again. */
type Unread = GranuleRun | (Again & { readonly kind: "node" });

/** One granule of a batch: where it is, what of it to read, and what is to be recorded between the one before and it. */
interface Wanted {
  readonly granule: number;
  readonly parts: GranuleRun["parts"];
  readonly before: readonly Unread[];
  /** whether it did not change and is stored again */
  readonly again: boolean;
}

/** What the reference images have at the places of a batch, by index in it. */
interface Known {
  /** by image, what may be taken over */
  readonly images: readonly Map<number, Reference>[];
  /** hashes of what they have in sparse packs, and that is stored again */
  readonly again: ReadonlyMap<number, readonly Buffer[]>;
}

type Step =
  { readonly before: readonly Unread[] } | { readonly slot: number; readonly batch: readonly Wanted[]; readonly ready: Promise<Known> };
type Counters = { -readonly [name in "dirtyBytes" | "zeroBytes" | "readBytes" | "newBytes" | "compactedBytes" | "storedBytes"]: number };

/** Steps decided but not yet written; the slots bound how many of them hold data. */
const AHEAD = 256;
/** What is unread waits for the next granule, unless it is more than this: then it becomes a step of its own. */
const UNREAD = 64;

/**
 * Reads what changed on one disk, many batches at a time, and records it in order of place: the tree takes references, the pack stream new granules.
 * @returns what it counted; the tree is not finished yet
 */
export async function writeDisk(
  content: DiskContent,
  options: DiskWriterOptions,
): Promise<Omit<DiskStats, "uploadedBytes" | "mapBytes"> & { readonly storedBytes: number }> {
  const counters: Counters = { dirtyBytes: 0, zeroBytes: 0, readBytes: 0, newBytes: 0, compactedBytes: 0, storedBytes: 0 };
  const queue = new BoundedQueue<Step>(AHEAD);
  const flight = { content, options, counters, queue };
  const produced = produce(flight).then(
    () => queue.end(),
    (reason: unknown) => queue.fail(reason),
  );
  try {
    for await (const step of queue) await record(step, flight);
  } catch (reason) {
    queue.fail(reason);
    options.slots.fail(reason);
    throw reason;
  } finally {
    // Nothing may still write into shared memory when this function has ended.
    await produced;
    await Promise.allSettled(queue.drain().flatMap((step) => ("slot" in step ? [step.ready] : [])));
  }
  return counters;
}

interface Flight {
  readonly content: DiskContent;
  readonly options: DiskWriterOptions;
  readonly counters: Counters;
  readonly queue: BoundedQueue<Step>;
}

async function produce(flight: Flight): Promise<void> {
  const { content, counters, options, queue } = flight;
  const batch: Wanted[] = [];
  let before: Unread[] = [];
  const pushBatch = async (): Promise<void> => {
    if (batch.length > 0) await queue.push(await startBatch(batch.splice(0), flight));
  };
  const pushUnread = async (): Promise<void> => {
    await pushBatch();
    if (before.length > 0) await queue.push({ before });
    before = [];
  };
  const want = async (granule: number, facts: Pick<Wanted, "parts" | "again">): Promise<void> => {
    batch.push({ granule, ...facts, before });
    before = [];
    if (batch.length === BATCH) await pushBatch();
  };
  for await (const run of toRecord(flight)) {
    options.signal.throwIfAborted();
    if ("count" in run) counters.dirtyBytes += bytesOf(run, content.size);
    if (run.kind === "granule") await want(run.first, { parts: null, again: true });
    else if (run.kind === "data") for (let i = 0; i < run.count; i++) await want(run.first + i, { parts: run.parts, again: false });
    else if (before.push(run) === UNREAD) await pushUnread();
  }
  const granules = Math.ceil(content.size / GRANULE);
  before.push({ kind: "zero", first: granules, count: FANOUT ** (rootLevel(content.size) + 1) - granules, parts: null });
  await pushUnread();
}

/** What changed, and amid it what is recorded again, in ascending order. */
function toRecord({ content, options }: Flight): AsyncIterable<GranuleRun | Again> {
  const { base, nodes, compaction, signal } = options;
  const trusted = trustedUpTo(content.size, base);
  const changed = granuleRuns(distrustFrom(content.extents(signal), trusted), content.size);
  if (compaction === null || base === null) return changed;
  return compaction.amid(changed, { base: new ImageMap(nodes, base), end: Math.ceil(trusted / GRANULE) });
}

/** Bytes of the disk that a base can vouch for: one of another size does for the granules that both have whole. */
export function trustedUpTo(size: number, base: ImageRoot | null): number {
  if (base === null) return 0;
  if (base.size === size) return size;
  const common = Math.min(size, base.size);
  return common - (common % GRANULE);
}

async function startBatch(batch: readonly Wanted[], flight: Flight): Promise<Step> {
  const index = await flight.options.slots.take();
  const ready = crunch(batch, index, flight);
  // It is awaited in its turn; until then a rejection must not count as unhandled.
  ready.catch(() => undefined);
  return { slot: index, batch, ready };
}

/** Reads a batch into its slot, looks its places up in the reference images meanwhile, and has a thread do the rest. */
async function crunch(batch: readonly Wanted[], index: number, flight: Flight): Promise<Known> {
  const { content, options, counters } = flight;
  const slot = options.slots.slot(index);
  slot.clear();
  const requests = readRequests(batch, slot, content.size);
  const [images] = await Promise.all([lookUp(batch, options), content.read(requests, options.signal)]);
  for (const { into } of requests) counters.readBytes += into.length;
  const again = leaveOut(batch, images, flight);
  images.forEach((references, which) => references.forEach((reference, i) => slot.setReference(i, which, reference.hash)));
  await options.threads.run({ op: "seal", slot: index, count: batch.length, runId: options.runId, codec: options.codec });
  return { images, again };
}

/** Takes out of the images what lies in sparse packs and is stored again. @returns hashes of that */
function leaveOut(
  batch: readonly Wanted[],
  images: readonly Map<number, Reference>[],
  { options: { compaction }, counters }: Flight,
): Map<number, Buffer[]> {
  const hashes = new Map<number, Buffer[]>();
  if (compaction === null) return hashes;
  for (const [i, { again }] of batch.entries()) {
    const sparse = images.filter((image) => isSparseAt(image, i, compaction));
    if (sparse.length === 0 || !(again || compaction.grant(counters.newBytes))) continue;
    hashes.set(
      i,
      sparse.flatMap((image) => image.get(i)?.hash ?? []),
    );
    for (const image of sparse) image.delete(i);
  }
  return hashes;
}

function isSparseAt(image: ReadonlyMap<number, Reference>, i: number, compaction: Compaction): boolean {
  const reference = image.get(i);
  return reference !== undefined && compaction.isSparse(reference);
}

async function lookUp(batch: readonly Wanted[], { references, isLost }: DiskWriterOptions): Promise<Map<number, Reference>[]> {
  return await Promise.all(
    references.slice(0, MAX_REFERENCES).map(async (image) => {
      const found = new Map<number, Reference>();
      for (const [i, { granule }] of batch.entries()) {
        const reference = isLost === null ? await image.lookup(granule) : await unlessLost(image.lookup(granule));
        if (reference !== null && isLost?.(reference) !== true) found.set(i, reference);
      }
      return found;
    }),
  );
}

/** A part of a map that is lost has nothing to compare with. */
async function unlessLost(looking: Promise<Reference | null>): Promise<Reference | null> {
  return await looking.catch((thrown: unknown) => {
    if (isLoss(thrown)) return null;
    throw thrown;
  });
}

/** One request for each stretch of neighbouring whole granules, one for each part of a partial one; the rest of a partial granule is zeroed here. */
function readRequests(batch: readonly Wanted[], slot: Slot, size: number): ReadRequest[] {
  const requests: ReadRequest[] = [];
  for (let i = 0; i < batch.length; i++) {
    const { granule, parts } = batch[i] as Wanted;
    if (parts !== null) {
      slot.text(i).fill(0);
      for (const { offset, length } of parts)
        requests.push({ offset, into: slot.text(i).subarray(offset - granule * GRANULE, offset - granule * GRANULE + length) });
      continue;
    }
    let count = 1;
    while (batch[i + count]?.granule === granule + count && batch[i + count]?.parts === null) count++;
    const offset = granule * GRANULE;
    const length = Math.min(count * GRANULE, size - offset);
    const into = slot.text(i, count);
    into.fill(0, length);
    requests.push({ offset, into: into.subarray(0, length) });
    i += count - 1;
  }
  return requests;
}

async function record(step: Step, flight: Flight): Promise<void> {
  const { options } = flight;
  if (!("slot" in step)) {
    await recordUnread(step.before, flight);
    const last = step.before.at(-1);
    say((last?.first ?? 0) + (last !== undefined && "count" in last ? last.count : 0), flight);
    return;
  }
  try {
    const known = await step.ready;
    const slot = options.slots.slot(step.slot);
    for (const [i, { granule, before }] of step.batch.entries()) {
      await recordUnread(before, flight);
      await options.tree.set(granule, await granuleReference(slot, i, known, flight));
    }
  } finally {
    options.slots.give(step.slot);
  }
  say((step.batch.at(-1)?.granule ?? 0) + 1, flight);
}

function say(granules: number, { options, content, counters }: Flight): void {
  options.onProgress({ position: Math.min(content.size, granules * GRANULE), readBytes: counters.readBytes });
}

async function recordUnread(unread: readonly Unread[], { options, content, counters }: Flight): Promise<void> {
  for (const run of unread) {
    if (run.kind === "node") {
      await options.tree.touch(run.first, run.level);
      continue;
    }
    counters.zeroBytes += bytesOf(run, content.size);
    await options.tree.clear(run.first, run.count);
  }
}

async function granuleReference(slot: Slot, i: number, known: Known, flight: Flight): Promise<Reference | null> {
  const { options, counters } = flight;
  const outcome = slot.outcome(i);
  if (outcome === Outcome.zero) {
    counters.zeroBytes += GRANULE;
    return null;
  }
  if (outcome === Outcome.same) {
    const reference = known.images[slot.detail(i)]?.get(i);
    if (reference === undefined) throw damaged("A worker thread compared a granule with an image that does not have it");
    return reference;
  }
  if (outcome !== Outcome.data) throw damaged("A worker thread left a granule undone");
  const hash = Buffer.from(slot.hash(i));
  const recent = options.recent.find(hash);
  if (recent !== undefined) return recent;
  const stored = slot.stored(i);
  const codec = slot.detail(i) as Codec;
  const reference = await options.data.append({ kind: FrameKind.granule, codec, hash, stored: [stored] });
  const isAgain = known.again.get(i)?.some((one) => one.equals(hash)) === true;
  counters[isAgain ? "compactedBytes" : "newBytes"] += GRANULE;
  counters.storedBytes += stored.length;
  options.recent.add(reference);
  return reference;
}

function bytesOf(run: GranuleRun, size: number): number {
  const start = run.first * GRANULE;
  return Math.max(0, Math.min(size, start + run.count * GRANULE) - start);
}
