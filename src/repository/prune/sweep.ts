import { mapConcurrently } from "../../lib/concurrency.ts";
import { StoreError } from "../../objectstore/index.ts";
import { RepositoryError } from "../errors.ts";
import { Holds } from "../holds.ts";
import { packAt, pointAt, sumsOf, usagesOf } from "../layout.ts";
import type { Repository } from "../repository.ts";
import { Marks } from "./marks.ts";
import { noteSparse } from "./sparse.ts";
import type { Plan, PruneOptions } from "./plan.ts";
import type { PlacedPoint } from "../usage/roots.ts";
import { isOld } from "../rules.ts";
import { unlessFull } from "../usage/usage-index.ts";

const PARALLEL_DELETES = 16;
const PARALLEL_LOOKS = 32;

/** Removes; the only part that needs the right to. */
export class Sweep {
  readonly #repository: Repository;
  readonly #options: PruneOptions;

  constructor(repository: Repository, options: PruneOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async carryOut(plan: Plan): Promise<void> {
    const { store, domain } = this.#repository;
    const { signal } = this.#options;
    await this.#record(plan);
    await this.#requireNotHeld(plan.roots.gone);
    const packs = [...plan.removable.entries()].map(([pack]) => pack).toSorted();
    const total = plan.roots.gone.length + packs.length;
    let done = 0;
    const remove = async (key: string): Promise<void> => {
      await store.delete(key, { signal }).catch(explain);
      this.#options.onProgress?.({ step: "remove", done: (done += 1), of: total });
    };
    // Points before their packs: what is left of a point is never more than it restores.
    await mapConcurrently(plan.roots.gone, PARALLEL_DELETES, async ({ vmId, seq }) => await remove(pointAt(vmId, seq)));
    await mapConcurrently(packs, PARALLEL_DELETES, async (pack) => await remove(packAt(domain, pack)));
    const { roots, needless, unclear } = plan;
    // After the removals: a full store has room for it now.
    if (unclear.length === 0) await noteSparse(this.#repository, { roots, needless, signal });
    await this.#tidy(plan);
  }

  /** A mark on unclear ground would call unreferenced what is not. */
  async #record({ at, isNew, unreferenced, unclear }: Plan): Promise<void> {
    if (unclear.length > 0 || !isNew) return;
    await new Marks(this.#repository, this.#options.signal).write(at, unreferenced).catch(unlessFull);
  }

  /** A forgotten point that somebody has held since it was looked at keeps everything as it is. */
  async #requireNotHeld(gone: readonly PlacedPoint[]): Promise<void> {
    const { signal } = this.#options;
    const holds = new Holds(this.#repository.store);
    const held = await mapConcurrently(gone, PARALLEL_LOOKS, async ({ id }) => await holds.has(id, signal));
    const kept = gone.find((_, i) => held[i] === true);
    if (kept === undefined) return;
    throw new RepositoryError(
      "point-held",
      `The restore point ${kept.id} was held while prune looked at what may go: nothing was removed`,
      {
        hint: "Run prune again",
      },
    );
  }

  /** Documents about maps that are no more, and marks that nothing will be compared with. */
  async #tidy({ at, reached, stored, unclear, marks, earlier }: Plan): Promise<void> {
    const { store, domain } = this.#repository;
    const { signal } = this.#options;
    for (const mark of marks) if (earlier !== null && mark.at < earlier.at) await store.delete(mark.key, { signal });
    if (unclear.length > 0) return;
    const prefix = usagesOf(domain);
    const stale: string[] = [];
    for await (const { key, modified } of store.list(prefix, { signal })) {
      const [pack = "", offset = ""] = key.slice(prefix.length).split("-");
      if (!reached.roots.has(`${pack}-${Number.parseInt(offset, 16)}`) && isOld(modified.getTime(), at.getTime())) stale.push(key);
    }
    stale.push(...(await this.#staleSums(stored, at)));
    await mapConcurrently(stale, PARALLEL_DELETES, async (key) => await store.delete(key, { signal }));
  }

  /** Checksums of runs of which no pack is left. */
  async #staleSums({ old, young }: Plan["stored"], at: Date): Promise<string[]> {
    const { store, domain } = this.#repository;
    const prefix = sumsOf(domain);
    const stale: string[] = [];
    for await (const { key, modified } of store.list(prefix, { signal: this.#options.signal })) {
      const run = key.slice(prefix.length);
      const isEmpty = [old, young].every((packs) => packs.ofRun(run).every((size) => size === 0));
      if (isEmpty && isOld(modified.getTime(), at.getTime())) stale.push(key);
    }
    return stale;
  }
}

/** A refusal is no failure of the store: other credentials are needed, or time. */
export function explain(thrown: unknown): never {
  if (!(thrown instanceof StoreError) || thrown.code !== "access-denied") throw thrown;
  throw new StoreError("access-denied", thrown.message, {
    cause: thrown,
    hint: "Prune needs credentials that may delete, which backups do without; an object under a lock goes when its time is over",
  });
}
