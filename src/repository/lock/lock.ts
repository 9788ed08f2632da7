import { type DefaultLock, type LockMode, type ObjectLocks, type ObjectStore, StoreError } from "../../objectstore/index.ts";
import type { LostDomain } from "../domains/open-domains.ts";
import { RepositoryError } from "../errors.ts";
import { PackNumbers } from "../format/pack-numbers.ts";
import type { Repository } from "../repository.ts";
import { lockName, readLockBook, writeLockBook } from "./book.ts";
import { hourOf } from "./due.ts";
import { Extender } from "./extend.ts";
import { allOfLost, findNeeded, type FindingNeeded, type Needed } from "./needed.ts";
import { type Found, type LockReport, reportOf } from "./report.ts";
import { Alarm, type Claim, Survey, type Surveyed } from "./survey.ts";

export interface LockOptions {
  /** how long what is needed is locked from the moment it is renewed */
  readonly periodMs: number;
  /** for what has no lock yet; default: the bucket's, else governance */
  readonly mode?: LockMode;
  /** requests for single objects at most */
  readonly budget: number;
  /** asks the store for every lock, whatever was written down */
  readonly verify?: boolean;
  /** finds out and says what it would do; changes nothing */
  readonly dryRun?: boolean;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: LockProgress) => void;
}

/** Where a run is; `of` is null while that is not known. */
export interface LockProgress {
  readonly step: "mark" | "list" | "lock";
  readonly done: number;
  readonly of: number | null;
}

/**
 * Extends the locks of all that points that count need, FORMAT.md §11, before they end; what nothing needs any more is left to run out. May be
 * ended at any moment and begun again, also beside another one.
 */
export async function extendLocks(repository: Repository, options: LockOptions): Promise<LockReport> {
  const { store, domain } = repository;
  return await extendAt(
    {
      store,
      domain,
      needed: async (finding) => await findNeeded(repository, finding),
      book: {
        read: async (signal) => (await readLockBook(repository, signal)) ?? new PackNumbers(),
        write: async (book, signal) => await writeLockBook(repository, book, signal),
      },
    },
    options,
  );
}

/** Extends the locks of all that is stored of a domain whose key is lost, all versions of the key first: it may come back, and nobody can tell what it opens. */
export async function extendAllLocks(store: ObjectStore, { id, error }: LostDomain, options: LockOptions): Promise<LockReport> {
  return await extendAt(
    { store, domain: id, needed: async () => await Promise.resolve(allOfLost(id, error.message)), book: null },
    options,
  );
}

/** What is locked, and how what is needed of it is found out. */
interface Place {
  readonly store: ObjectStore;
  readonly domain: string;
  readonly needed: (finding: FindingNeeded) => Promise<Needed>;
  /** null: nothing is written down, and the store is asked for every lock */
  readonly book: {
    readonly read: (signal: AbortSignal) => Promise<PackNumbers>;
    readonly write: (book: PackNumbers, signal: AbortSignal) => Promise<void>;
  } | null;
}

async function extendAt(place: Place, options: LockOptions): Promise<LockReport> {
  const { store } = place;
  const { locks } = store;
  const configuration = (await locks?.configuration(options)) ?? null;
  if (locks === undefined || configuration === null) {
    throw new RepositoryError("invalid", `Nothing can be locked at ${store.url}: the store has no Object Lock there`, {
      hint: "Object Lock is chosen when a bucket is made, or enabled by who runs the store; `thinstream store-test` says whether it is there",
    });
  }
  return await new LockRun(place, options, { locks, byDefault: configuration.byDefault }).run();
}

class LockRun {
  readonly #place: Place;
  readonly #options: LockOptions;
  readonly #locks: ObjectLocks;
  readonly #byDefault: DefaultLock | null;

  constructor(
    place: Place,
    options: LockOptions,
    { locks, byDefault }: { readonly locks: ObjectLocks; readonly byDefault: DefaultLock | null },
  ) {
    this.#place = place;
    this.#options = options;
    this.#locks = locks;
    this.#byDefault = byDefault;
  }

  async run(): Promise<LockReport> {
    const at = await this.#place.store.now({ signal: this.#options.signal });
    const found = await this.#look(at);
    const extender = await this.#extend(found, at);
    return reportOf({ at, until: new Date(at.getTime() + this.#options.periodMs), found, extender });
  }

  async #look(at: Date): Promise<Found> {
    const { signal, dryRun = false, verify = false } = this.#options;
    const onPoint = (done: number, of: number): void => this.#say("mark", done, of);
    // The points first: what is stored for them was stored before them.
    const needed = await this.#place.needed({ at, keep: !dryRun, signal, onPoint });
    const book = verify ? null : ((await this.#place.book?.read(signal)) ?? null);
    const { survey, distrusted } = await this.#survey(needed, { at, book });
    return {
      points: needed.points,
      unclear: needed.unclear,
      survey,
      distrusted,
      released: noLongerNeeded(distrusted ? null : book, survey.standing, at),
      missing: missingOf(needed.keys(this.#place.domain), survey.standing),
    };
  }

  /** A book that says more of some lock than the store is believed in nothing: then every lock is asked for. */
  async #survey(
    needed: Needed,
    { at, book }: { readonly at: Date; readonly book: PackNumbers | null },
  ): Promise<{ readonly survey: Surveyed; readonly distrusted: boolean }> {
    const { periodMs, budget, signal } = this.#options;
    const options = { domain: this.#place.domain, at, periodMs, budget, signal, byDefault: this.#byDefault };
    this.#say("list", 0, null);
    const survey = await new Survey(needed, book, options).take(this.#locks);
    if (await this.#isTrue(survey.sample)) return { survey, distrusted: false };
    return { survey: await new Survey(needed, null, options).take(this.#locks), distrusted: true };
  }

  async #isTrue(sample: readonly Claim[]): Promise<boolean> {
    const { signal } = this.#options;
    for (const { key, version, until } of sample) {
      const lock = await this.#locks.find(key, version, { signal }).catch(unlessGone);
      if (lock === null || (lock !== "gone" && hourOf(lock.until) < until)) return false;
    }
    return true;
  }

  async #extend({ survey, released }: Found, at: Date): Promise<Extender> {
    const { periodMs, budget, signal, dryRun = false } = this.#options;
    const mode = this.#options.mode ?? this.#byDefault?.mode ?? "governance";
    const save = async (): Promise<void> => {
      if (!dryRun) await this.#place.book?.write(bookOf(survey.standing, released), signal);
    };
    const onDone = (done: number, of: number): void => this.#say("lock", done, of);
    const extender = new Extender(this.#locks, { at, periodMs, mode, budget, dryRun, signal, onDone, save });
    await extender.extend(survey.candidates, survey.standing);
    // Also where nothing was due: the book of what is needed may have changed.
    if (survey.candidates.length === 0) await save();
    return extender;
  }

  #say(step: LockProgress["step"], done: number, of: number | null): void {
    this.#options.onProgress?.({ step, done, of });
  }
}

/** What is needed and was met nowhere. */
function missingOf(keys: Iterable<string>, standing: PackNumbers): Alarm {
  const missing = new Alarm();
  for (const key of keys) if (standing.get(lockName(key)) === 0) missing.add(key);
  return missing;
}

/** What the book has of objects that nothing needs, as long as their locks last. */
function noLongerNeeded(book: PackNumbers | null, standing: PackNumbers, at: Date): PackNumbers {
  const left = new PackNumbers();
  for (const [name, hour] of book?.entries() ?? []) if (standing.get(name) === 0 && hour > hourOf(at)) left.set(name, hour);
  return left;
}

function bookOf(standing: PackNumbers, released: PackNumbers): PackNumbers {
  const book = new PackNumbers();
  for (const part of [standing, released]) for (const [name, hour] of part.entries()) if (hour > 1) book.set(name, hour);
  return book;
}

/** A version that is gone proves nothing of the book. */
function unlessGone(thrown: unknown): "gone" {
  if (thrown instanceof StoreError && thrown.code === "not-found") return "gone";
  throw thrown;
}
