import { mapConcurrently } from "../../lib/concurrency.ts";
import { type Lock, type LockMode, type ObjectLocks, type ObjectVersion, StoreError } from "../../objectstore/index.ts";
import type { PackNumbers } from "../format/pack-numbers.ts";
import { hourOf, isDue } from "./due.ts";
import type { Candidate } from "./survey.ts";

const PARALLEL = 16;
/** After so many objects, and a tenth of all, what is known so far is written down. */
const SAVE_EVERY = 10_000;
const SAVES = 10;

export interface ExtendOptions {
  readonly at: Date;
  readonly periodMs: number;
  /** for what has no lock yet */
  readonly mode: LockMode;
  readonly budget: number;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  readonly onDone: (done: number, of: number) => void;
  readonly save: () => Promise<void>;
}

/** Asks for locks and extends them, the most urgent first, until all is done or the requests are used up. */
export class Extender {
  /** objects that were given a longer lock, or would be in a dry run */
  renewed = 0;
  /** objects that were looked at */
  done = 0;
  requests = 0;
  readonly #locks: ObjectLocks;
  readonly #options: ExtendOptions;
  readonly #until: Date;

  constructor(locks: ObjectLocks, options: ExtendOptions) {
    this.#locks = locks;
    this.#options = options;
    this.#until = new Date(options.at.getTime() + options.periodMs);
  }

  /** @param standing told of each lock that is known then */
  async extend(candidates: readonly Candidate[], standing: PackNumbers): Promise<void> {
    const { budget, onDone, save } = this.#options;
    const step = Math.max(SAVE_EVERY, Math.ceil(candidates.length / SAVES));
    for (let from = 0; from < candidates.length && this.requests < budget; from += step) {
      await mapConcurrently(candidates.slice(from, from + step), PARALLEL, async (candidate) => {
        this.#options.signal.throwIfAborted();
        if (this.requests >= budget) return;
        standing.set(candidate.name, Math.max(1, await this.#protect(candidate)));
        this.done += 1;
        onDone(this.done, candidates.length);
      });
      await save();
    }
  }

  /** The hour until which all of these versions are locked. */
  async #protect(candidate: Candidate): Promise<number> {
    const hours: number[] = [];
    for (const version of candidate.versions) hours.push(await this.#protectVersion(candidate, version).catch(unlessGone));
    return Math.min(...hours);
  }

  async #protectVersion({ name, ask, until: known }: Candidate, version: ObjectVersion): Promise<number> {
    let mode = this.#options.mode;
    if (ask) {
      const found = await this.#find(version);
      const hour = found === null ? 0 : hourOf(found.until);
      if (!isDue(name, hour, this.#options)) return hour;
      mode = found?.mode ?? mode;
      if (this.#options.dryRun) return this.#would(hour);
    }
    if (this.#options.dryRun) return this.#would(known);
    return await this.#extend(version, mode);
  }

  #would(hour: number): number {
    this.renewed += 1;
    return hour;
  }

  async #extend(version: ObjectVersion, mode: LockMode): Promise<number> {
    try {
      await this.#put(version, { mode, until: this.#until });
      return hourOf(this.#until);
    } catch (thrown) {
      if (!(thrown instanceof StoreError) || thrown.temporary || thrown.code === "not-found") throw thrown;
      // Perhaps it is locked for longer, or in the other mode, of which the store says no more than that it refuses.
      const found = await this.#find(version).catch(() => null);
      if (found !== null && found.until >= this.#until) return hourOf(found.until);
      if (found === null || found.mode === mode) throw refused(thrown);
      await this.#put(version, { mode: found.mode, until: this.#until }).catch((again: unknown) => {
        throw refused(again);
      });
      return hourOf(this.#until);
    }
  }

  async #find({ key, version }: ObjectVersion): Promise<Lock | null> {
    this.requests += 1;
    return await this.#locks.find(key, version, { signal: this.#options.signal });
  }

  async #put({ key, version }: ObjectVersion, lock: Lock): Promise<void> {
    this.requests += 1;
    await this.#locks.extend(key, version, lock, { signal: this.#options.signal });
    this.renewed += 1;
  }
}

/** What was taken away since it was listed has no lock. */
function unlessGone(thrown: unknown): 0 {
  if (thrown instanceof StoreError && thrown.code === "not-found") return 0;
  throw thrown;
}

function refused(thrown: unknown): unknown {
  if (!(thrown instanceof StoreError) || thrown.temporary) return thrown;
  return new StoreError(thrown.code, thrown.message, {
    cause: thrown,
    hint: "Extending locks needs credentials with s3:GetObjectRetention and s3:PutObjectRetention, which backups do without",
  });
}
