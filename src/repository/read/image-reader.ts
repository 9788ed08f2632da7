import { Semaphore } from "../../lib/semaphore.ts";
import { StoreError } from "../../objectstore/index.ts";
import { BATCH, Outcome } from "../crunch/slot.ts";
import { SlotPool } from "../crunch/slot-pool.ts";
import { ThreadPool } from "../crunch/thread-pool.ts";
import { GRANULE, TAG_LENGTH } from "../format/constants.ts";
import { damaged } from "../format/errors.ts";
import { FrameSealer } from "../format/frame.ts";
import { runOfPack } from "../format/pack.ts";
import { packAt } from "../layout.ts";
import { ImageMap, type ImageRoot, isLoss, type LostGranules, type MappedGranule } from "../map/image-map.ts";
import { NodeReader } from "../map/node-reader.ts";
import type { Repository } from "../repository.ts";
import { byPlaceInPack, FETCH_GAP, type Fetch, type FetchPlan, planFetches } from "./fetch-plan.ts";
import type { ImageTarget } from "./image-target.ts";
import { writeSparse } from "./sparse-write.ts";

/** Granules fetched together, and how many such windows are under way. */
const WINDOW = 128;
const WINDOWS = 4;
const WINDOW_BYTES = WINDOW * (GRANULE + TAG_LENGTH + FETCH_GAP);
const SLOTS = 12;
const PARALLEL_FETCHES = 24;

/**
 * Granules looked at together, 1 GiB of disk. A disk that was written in many runs lies in many packs, a little of each place in every one: taken pack by
 * pack within a stretch, a request brings megabytes; taken place by place it would bring a granule.
 */
const STRETCH = 16_384;

/** Granules fetched together, in order of place, and how far the disk is done with them. */
interface Window {
  readonly granules: readonly MappedGranule[];
  /** bytes */
  readonly position: number;
}

function* windowsByPack(stretch: readonly MappedGranule[]): Generator<Window, void, undefined> {
  const [start, end] = [(stretch[0]?.granule ?? 0) * GRANULE, ((stretch.at(-1)?.granule ?? 0) + 1) * GRANULE];
  const byPack = stretch.toSorted((a, b) => byPlaceInPack(a.reference, b.reference));
  for (let at = 0; at < byPack.length; at += WINDOW) {
    const granules = byPack.slice(at, at + WINDOW).toSorted((a, b) => a.granule - b.granule);
    const done = Math.min(1, (at + WINDOW) / byPack.length);
    yield { granules, position: Math.round(start + (end - start) * done) };
  }
}

/** A stretch of a disk whose data is not in the repository as it was written. */
export interface DamagedRange {
  readonly offset: number;
  readonly length: number;
  readonly reason: string;
}

/** How much a reader may take; what is not said is as for a restore, which has the machine for itself. */
export interface ReaderSize {
  /** windows of granules under way, 14 MiB each */
  readonly windows?: number;
  /** batches of granules that are opened, 2 MiB each */
  readonly slots?: number;
  /** some 20 MiB each */
  readonly threads?: number;
}

export interface ReadOptions {
  readonly signal: AbortSignal;
  /** Told of damage instead of failing on it; the range is left as zeros. */
  readonly onDamage?: (range: DamagedRange) => void;
  readonly onProgress?: (progress: { readonly position: number; readonly writtenBytes: number }) => void;
}

/** Reads whole images out of a repository, many requests at a time, every granule opened and checked by worker threads. */
export class ImageReader {
  readonly #repository: Repository;
  readonly #slots: SlotPool;
  readonly #windows: readonly SharedArrayBuffer[];
  readonly #free: number[];
  readonly #turn: Semaphore;
  readonly #fetching = new Semaphore(PARALLEL_FETCHES);
  readonly #threads: ThreadPool;

  constructor(repository: Repository, { windows = WINDOWS, slots = SLOTS, threads }: ReaderSize = {}) {
    this.#repository = repository;
    this.#slots = new SlotPool(slots);
    this.#turn = new Semaphore(windows);
    this.#windows = Array.from({ length: windows }, () => new SharedArrayBuffer(WINDOW_BYTES));
    this.#free = this.#windows.map((_, i) => i);
    const setup = { keys: repository.keys, slots: this.#slots.slots.map((slot) => slot.memory), windows: this.#windows };
    this.#threads = new ThreadPool(setup, threads);
  }

  /** Writes an image to a target. Rejects with `damaged` at the first granule that is not as it was stored, unless `onDamage` takes it. */
  async copy(image: ImageRoot, target: ImageTarget, options: ReadOptions): Promise<void> {
    const failure = new AbortController();
    const signal = AbortSignal.any([options.signal, failure.signal]);
    const flights = new Set<Promise<void>>();
    let written = 0;
    let position = 0;
    try {
      for await (const window of this.#windowsOf(image, target, { ...options, signal })) {
        const release = await this.#turn.acquire(signal);
        const flight = this.#copyWindow(window.granules, { image, target, options: { ...options, signal } })
          .then((bytes) => {
            written += bytes;
            position = Math.max(position, window.position);
            options.onProgress?.({ position: Math.min(position, image.size), writtenBytes: written });
          })
          .catch((reason: unknown) => failure.abort(reason))
          .finally(() => {
            release();
            flights.delete(flight);
          });
        flights.add(flight);
      }
    } finally {
      await Promise.all(flights);
    }
    signal.throwIfAborted();
    options.onProgress?.({ position: image.size, writtenBytes: written });
  }

  /** Writes some of an image's granules to a target, and nothing else; any number of calls may be under way. Rejects as `copy`. */
  async copyGranules(
    image: ImageRoot,
    granules: readonly MappedGranule[],
    { target, signal }: { readonly target: ImageTarget; readonly signal: AbortSignal },
  ): Promise<void> {
    for (let at = 0; at < granules.length; at += WINDOW) {
      const release = await this.#turn.acquire(signal);
      try {
        await this.#copyWindow(granules.slice(at, at + WINDOW), { image, target, options: { signal } });
      } finally {
        release();
      }
    }
  }

  async close(): Promise<void> {
    await this.#threads.close();
  }

  /** The image's granules, a window at a time; zeros between them go to a target that needs them on the way. */
  async *#windowsOf(image: ImageRoot, target: ImageTarget, options: ReadOptions): AsyncGenerator<Window, void, undefined> {
    const { store, domain, keys } = this.#repository;
    const { signal, onDamage } = options;
    const onLost = onDamage && ((lost: LostGranules): void => onDamage(rangeOf(lost, image.size)));
    const nodes = new NodeReader({ store, domain, signal, sealer: new FrameSealer(keys) });
    let stretch: MappedGranule[] = [];
    let zeroFrom = 0;
    for await (const mapped of new ImageMap(nodes, image).granules(onLost)) {
      signal.throwIfAborted();
      const offset = mapped.granule * GRANULE;
      if (offset >= image.size) throw damaged("An image map goes beyond the end of its disk");
      if (!target.blank && offset > zeroFrom) await target.zero(zeroFrom, offset - zeroFrom);
      zeroFrom = offset + GRANULE;
      stretch.push(mapped);
      if (stretch.length === STRETCH) yield* windowsByPack(stretch.splice(0));
    }
    if (!target.blank && zeroFrom < image.size) await target.zero(zeroFrom, image.size - zeroFrom);
    yield* windowsByPack(stretch);
  }

  async #copyWindow(window: readonly MappedGranule[], job: CopyJob): Promise<number> {
    const index = this.#free.pop() as number;
    try {
      const plan = planFetches(window.map((mapped) => mapped.reference));
      const missing = await this.#fetch(window, plan, { index, signal: job.options.signal });
      const batches = Array.from({ length: Math.ceil(window.length / BATCH) }, (_, i) => i * BATCH);
      const written = await Promise.all(batches.map(async (from) => await this.#copyBatch({ window, plan, index, missing, from }, job)));
      return written.reduce((sum, bytes) => sum + bytes, 0);
    } finally {
      this.#free.push(index);
    }
  }

  /** @returns the granules of the window that were not to be had, by index, with the reason */
  async #fetch(window: readonly MappedGranule[], plan: FetchPlan, into: FetchInto): Promise<ReadonlyMap<number, string>> {
    const missing = new Map<number, string>();
    await Promise.all(
      plan.fetches.map(async (fetch, i) => {
        if ((await this.#fetchOne(fetch, into)) === null) return;
        // A pack that is cut short, or a gap that cannot be read, may still hold some of the frames.
        for (const [which, { reference }] of window.entries()) {
          const place = plan.places[which];
          if (place?.fetch !== i) continue;
          const lost = await this.#fetchOne({ ...reference, at: place.at }, into);
          if (lost !== null) missing.set(which, lost);
        }
      }),
    );
    return missing;
  }

  /** @returns null, or why these bytes are lost */
  async #fetchOne(fetch: Fetch, { index, signal }: FetchInto): Promise<string | null> {
    const { store, domain } = this.#repository;
    const key = packAt(domain, fetch.pack);
    const release = await this.#fetching.acquire(signal);
    try {
      await store.read(key, fetch.offset, Buffer.from(this.#windows[index] as SharedArrayBuffer, fetch.at, fetch.length), { signal });
      return null;
    } catch (thrown) {
      if (!(thrown instanceof StoreError) || !isLoss(thrown)) throw thrown;
      return `${key} is ${thrown.code === "not-found" ? "missing" : "cut short"}`;
    } finally {
      release();
    }
  }

  async #copyBatch(batch: BatchJob, job: CopyJob): Promise<number> {
    const granules = batch.window.slice(batch.from, batch.from + BATCH);
    const places = batch.plan.places.slice(batch.from, batch.from + BATCH);
    const slotIndex = await this.#slots.take();
    const slot = this.#slots.slot(slotIndex);
    try {
      const frames = granules.map(({ reference }, i) => ({
        at: places[i]?.at ?? 0,
        length: reference.length,
        codec: reference.codec,
        hash: reference.hash,
        runId: runOfPack(reference.pack),
      }));
      slot.clear();
      await this.#threads.run({ op: "open", slot: slotIndex, window: batch.index, frames });
      const reasons = granules.map(
        (_, i) => batch.missing.get(batch.from + i) ?? (slot.outcome(i) === Outcome.data ? null : "its content is damaged"),
      );
      return await writeBatch(granules, reasons, { slot, job });
    } finally {
      this.#slots.give(slotIndex);
    }
  }
}

interface CopyJob {
  readonly image: ImageRoot;
  readonly target: ImageTarget;
  readonly options: ReadOptions;
}

/** Which window bytes are fetched into. */
interface FetchInto {
  readonly index: number;
  readonly signal: AbortSignal;
}

interface BatchJob {
  readonly window: readonly MappedGranule[];
  readonly plan: FetchPlan;
  readonly index: number;
  readonly missing: ReadonlyMap<number, string>;
  readonly from: number;
}

interface Opened {
  readonly slot: ReturnType<SlotPool["slot"]>;
  readonly job: CopyJob;
}

/** Writes neighbours together; damaged granules are reported, or end it. */
async function writeBatch(granules: readonly MappedGranule[], reasons: readonly (string | null)[], { slot, job }: Opened): Promise<number> {
  const { image, target, options } = job;
  let written = 0;
  for (let i = 0; i < granules.length; i++) {
    const mapped = granules[i] as MappedGranule;
    const offset = mapped.granule * GRANULE;
    const reason = reasons[i] ?? null;
    if (reason !== null) {
      await damage({ offset, length: Math.min(GRANULE, image.size - offset), reason }, mapped, job);
      continue;
    }
    const count = wholeNeighbours(granules, reasons, i);
    const length = Math.min(count * GRANULE, image.size - offset);
    await writeSparse(target, offset, slot.text(i, count).subarray(0, length));
    options.signal.throwIfAborted();
    written += length;
    i += count - 1;
  }
  return written;
}

/** How many granules from `i` on follow each other on the disk and are whole. */
function wholeNeighbours(granules: readonly MappedGranule[], reasons: readonly (string | null)[], i: number): number {
  const first = granules[i]?.granule ?? 0;
  let count = 1;
  while (granules[i + count]?.granule === first + count && reasons[i + count] === null) count++;
  return count;
}

function rangeOf({ first, count, reason }: LostGranules, size: number): DamagedRange {
  const offset = first * GRANULE;
  return { offset, length: Math.max(0, Math.min(count * GRANULE, size - offset)), reason };
}

async function damage(range: DamagedRange, mapped: MappedGranule, { target, options }: CopyJob): Promise<void> {
  if (options.onDamage === undefined) {
    throw damaged(
      `The disk's bytes from ${range.offset} are lost: ${range.reason} (pack ${mapped.reference.pack}, offset ${mapped.reference.offset})`,
    );
  }
  options.onDamage(range);
  if (!target.blank) await target.zero(range.offset, range.length);
}
