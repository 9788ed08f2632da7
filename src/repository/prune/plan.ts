import { PackNumbers } from "../format/pack-numbers.ts";
import type { Repository } from "../repository.ts";
import { type MarkPlace, Marks } from "./marks.ts";
import { reach, type Reached } from "../usage/reach.ts";
import { findRoots, type Roots } from "../usage/roots.ts";
import { GRACE_MS, mayRemove } from "../rules.ts";
import { findSparse } from "./sparse.ts";
import { listPacks, type StoredPacks } from "../usage/stored-packs.ts";

export interface PruneOptions {
  readonly signal: AbortSignal;
  /** finds out and says what it would do; writes and removes nothing */
  readonly dryRun?: boolean;
  readonly onProgress?: (progress: PruneProgress) => void;
}

/** Where a prune is; `of` is null while that is not known. */
export interface PruneProgress {
  readonly step: "list" | "mark" | "remove";
  readonly done: number;
  readonly of: number | null;
}

/** Packs that cannot go yet. */
export interface WaitingPacks {
  readonly packs: number;
  readonly bytes: number;
  readonly why: "young" | "marked" | "destroyed";
  /** the first time at which a prune may remove them */
  readonly until: Date;
}

/** What a prune found, and what may go. */
export interface Plan {
  readonly at: Date;
  readonly roots: Roots;
  readonly stored: StoredPacks;
  readonly reached: Reached;
  /** points of which it cannot be said what they refer to: nothing may be given up because of them */
  readonly unclear: Reached["unclear"];
  /** bytes of old packs that nothing refers to */
  readonly unreferenced: PackNumbers;
  /** of them those that may go now */
  readonly removable: PackNumbers;
  readonly waiting: readonly WaitingPacks[];
  /** of old packs of which little is needed, the bytes that nobody needs */
  readonly needless: PackNumbers;
  /** whether there is something unreferenced that no mark has yet */
  readonly isNew: boolean;
  readonly marks: readonly MarkPlace[];
  /** the mark that was compared with; null where none is old enough */
  readonly earlier: MarkPlace | null;
}

/** Finds out; writes down nothing but what images use. */
export class Pruning {
  readonly #repository: Repository;
  readonly #options: PruneOptions;

  constructor(repository: Repository, options: PruneOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async plan(): Promise<Plan> {
    const { store, domain } = this.#repository;
    const { signal, dryRun = false } = this.#options;
    const at = await store.now({ signal });
    // The packs first: what is stored after this is young, and what is committed after it stands on points that count.
    this.#say("list", 0, null);
    const stored = await listPacks(store, { domain, at, signal });
    const roots = await findRoots(this.#repository, at, signal);
    const count = roots.machines.reduce((sum, { length }) => sum + length, 0);
    const reached = await reach(this.#repository, roots, { signal, keep: !dryRun, onPoint: (done) => this.#say("mark", done, count) });
    const unclear = [
      ...roots.missing.map((id) => ({ id, reason: "it is missing, and nobody has forgotten it, or it is held" })),
      ...reached.unclear,
    ];
    const unreferenced = without(stored.old, reached.packs.bytes);
    const marks = new Marks(this.#repository, signal);
    const places = await marks.list();
    const { removable, earlier, waiting, isNew } = await this.#compare({ at, marks, places, unreferenced });
    const young = without(stored.young, reached.packs.bytes);
    return {
      at,
      roots,
      stored,
      reached,
      unclear,
      unreferenced,
      earlier,
      isNew,
      needless: findSparse(stored, reached),
      marks: places,
      removable: unclear.length > 0 ? new PackNumbers() : removable,
      waiting: [...waiting, ...waits(young, "young", new Date(at.getTime() + 2 * GRACE_MS))],
    };
  }

  /** What an earlier mark found unreferenced too; the rest waits for the mark that found it first to be old enough. */
  async #compare({
    at,
    marks,
    places,
    unreferenced,
  }: {
    readonly at: Date;
    readonly marks: Marks;
    readonly places: readonly MarkPlace[];
    readonly unreferenced: PackNumbers;
  }): Promise<Pick<Plan, "removable" | "earlier" | "waiting" | "isNew">> {
    let rest = unreferenced;
    let earlier: MarkPlace | null = null;
    let removable = new PackNumbers();
    for (const place of places.filter((mark) => mayRemove(mark.at.getTime(), at.getTime())).toReversed()) {
      const found = await marks.read(place);
      if (found === null) continue;
      earlier = place;
      removable = common(rest, found);
      rest = without(rest, found);
      break;
    }
    const waiting: WaitingPacks[] = [];
    for (const place of places.filter((mark) => !mayRemove(mark.at.getTime(), at.getTime()))) {
      const found = await marks.read(place);
      if (found === null) continue;
      waiting.push(...waits(common(rest, found), "marked", new Date(place.at.getTime() + GRACE_MS)));
      rest = without(rest, found);
    }
    const fresh = waits(rest, "marked", new Date(at.getTime() + GRACE_MS));
    return { removable, earlier, waiting: [...waiting, ...fresh], isNew: fresh.length > 0 };
  }

  #say(step: PruneProgress["step"], done: number, of: number | null): void {
    this.#options.onProgress?.({ step, done, of });
  }
}

/** Those of `some` that are not in `others`, with their numbers. */
function without(some: PackNumbers, others: PackNumbers): PackNumbers {
  return filtered(some, (pack) => others.get(pack) === 0);
}

/** Those of `some` that are in `others` too. */
function common(some: PackNumbers, others: PackNumbers): PackNumbers {
  return filtered(some, (pack) => others.get(pack) !== 0);
}

function filtered(some: PackNumbers, belongs: (pack: string) => boolean): PackNumbers {
  const found = new PackNumbers();
  for (const [pack, bytes] of some.entries()) if (belongs(pack)) found.set(pack, bytes);
  return found;
}

/** How many packs these are, and their bytes. */
export function sumOf(packs: PackNumbers): { readonly packs: number; readonly bytes: number } {
  const sum = { packs: 0, bytes: 0 };
  for (const [, bytes] of packs.entries()) {
    sum.packs += 1;
    sum.bytes += bytes;
  }
  return sum;
}

function waits(packs: PackNumbers, why: WaitingPacks["why"], until: Date): WaitingPacks[] {
  const sum = sumOf(packs);
  return sum.packs === 0 ? [] : [{ ...sum, why, until }];
}
