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
import { type ImageMap, type ImageRoot, isLoss } from "../map/image-map.ts";
import type { TreeBuilder } from "../map/tree-builder.ts";
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
  /** image that `clean` extents refer to; null when there can be none */
  readonly base: ImageRoot | null;
  /** images that new granules are compared with, best first; at most three */
  readonly references: readonly ImageMap[];
  /** Where what is compared with is damaged in part: what cannot be taken over. Null where all of it is believed. */
  readonly isLost: ((reference: Reference) => boolean) | null;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: DiskProgress) => void;
}

export interface DiskProgress {
  /** bytes of the disk dealt with so far, from its start */
  readonly position: number;
  readonly readBytes: number;
}

/** One granule of a batch: where it is, what of it to read, and what is zero between the one before and it. */
interface Wanted {
  readonly granule: number;
  readonly parts: GranuleRun["parts"];
  readonly zeros: readonly GranuleRun[];
}

type Step =
  | { readonly zeros: readonly GranuleRun[] }
  | { readonly slot: number; readonly batch: readonly Wanted[]; readonly ready: Promise<ReadonlyMap<number, Reference>[]> };
type Counters = { -readonly [name in "dirtyBytes" | "zeroBytes" | "readBytes" | "newBytes" | "storedBytes"]: number };

/** Steps decided but not yet written; the slots bound how many of them hold data. */
const AHEAD = 256;
/** Runs of zeros that wait for the next granule before they become a step of their own. */
const ZEROS = 64;

/**
 * Reads what changed on one disk, many batches at a time, and records it in order of place: the tree takes references, the pack stream new granules.
 * @returns what it counted; the tree is not finished yet
 */
export async function writeDisk(
  content: DiskContent,
  options: DiskWriterOptions,
): Promise<Omit<DiskStats, "uploadedBytes" | "mapBytes"> & { readonly storedBytes: number }> {
  const counters: Counters = { dirtyBytes: 0, zeroBytes: 0, readBytes: 0, newBytes: 0, storedBytes: 0 };
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
  const { content, options, counters, queue } = flight;
  const trusted = trustedUpTo(content.size, options.base);
  const batch: Wanted[] = [];
  let zeros: GranuleRun[] = [];
  const pushZeros = async (): Promise<void> => {
    if (zeros.length > 0) await queue.push({ zeros });
    zeros = [];
  };
  const pushBatch = async (): Promise<void> => {
    if (batch.length > 0) await queue.push(await startBatch(batch.splice(0), flight));
  };
  for await (const run of granuleRuns(distrustFrom(content.extents(options.signal), trusted), content.size)) {
    options.signal.throwIfAborted();
    counters.dirtyBytes += bytesOf(run, content.size);
    if (run.kind === "zero") {
      zeros.push(run);
      if (zeros.length < ZEROS) continue;
      await pushBatch();
      await pushZeros();
      continue;
    }
    for (let i = 0; i < run.count; i++) {
      batch.push({ granule: run.first + i, parts: run.parts, zeros });
      zeros = [];
      if (batch.length === BATCH) await pushBatch();
    }
  }
  await pushBatch();
  const granules = Math.ceil(content.size / GRANULE);
  zeros.push({ kind: "zero", first: granules, count: FANOUT ** (rootLevel(content.size) + 1) - granules, parts: null });
  await pushZeros();
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
async function crunch(batch: readonly Wanted[], index: number, flight: Flight): Promise<ReadonlyMap<number, Reference>[]> {
  const { content, options, counters } = flight;
  const slot = options.slots.slot(index);
  slot.clear();
  const requests = readRequests(batch, slot, content.size);
  const [known] = await Promise.all([lookUp(batch, options), content.read(requests, options.signal)]);
  for (const { into } of requests) counters.readBytes += into.length;
  known.forEach((references, which) => references.forEach((reference, i) => slot.setReference(i, which, reference.hash)));
  await options.threads.run({ op: "seal", slot: index, count: batch.length, runId: options.runId, codec: options.codec });
  return known;
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
  const { options, content, counters } = flight;
  if ("zeros" in step) {
    await clear(step.zeros, flight);
    const last = step.zeros.at(-1);
    options.onProgress({
      position: Math.min(content.size, last === undefined ? 0 : (last.first + last.count) * GRANULE),
      readBytes: counters.readBytes,
    });
    return;
  }
  try {
    const known = await step.ready;
    const slot = options.slots.slot(step.slot);
    for (const [i, { granule, zeros }] of step.batch.entries()) {
      await clear(zeros, flight);
      await options.tree.set(granule, await granuleReference(slot, i, known, flight));
    }
  } finally {
    options.slots.give(step.slot);
  }
  options.onProgress({
    position: Math.min(content.size, ((step.batch.at(-1)?.granule ?? 0) + 1) * GRANULE),
    readBytes: counters.readBytes,
  });
}

async function clear(zeros: readonly GranuleRun[], { options, content, counters }: Flight): Promise<void> {
  for (const run of zeros) {
    counters.zeroBytes += bytesOf(run, content.size);
    await options.tree.clear(run.first, run.count);
  }
}

async function granuleReference(
  slot: Slot,
  i: number,
  known: readonly ReadonlyMap<number, Reference>[],
  flight: Flight,
): Promise<Reference | null> {
  const { options, counters } = flight;
  const outcome = slot.outcome(i);
  if (outcome === Outcome.zero) {
    counters.zeroBytes += GRANULE;
    return null;
  }
  if (outcome === Outcome.same) {
    const reference = known[slot.detail(i)]?.get(i);
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
  counters.newBytes += GRANULE;
  counters.storedBytes += stored.length;
  options.recent.add(reference);
  return reference;
}

function bytesOf(run: GranuleRun, size: number): number {
  const start = run.first * GRANULE;
  return Math.max(0, Math.min(size, start + run.count * GRANULE) - start);
}
