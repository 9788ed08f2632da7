import type { Rules } from "./rules.ts";
import type { Listed, Point, Store } from "./store.ts";
import { bits, type Said } from "./writer.ts";

/** What nothing referred to at a time: a prune's record, kept in the store. */
export interface Mark {
  readonly at: number;
  readonly unreferenced: number;
  readonly forgotten: readonly Point[];
}

type State = "idle" | "packs" | "points" | "sweeps";

/** A prune: marks, records, and removes what this mark and an earlier one found unreferenced; every removal is a request that arrives when it likes. */
export class Pruner {
  readonly name: string;
  readonly #rules: Rules;
  readonly #store: Store;
  readonly #marks: Mark[];
  #state: State = "idle";
  #at = 0;
  #packs = 0;
  #listed: readonly Listed[] = [];
  #removing = 0;
  #forgotten: Point[] = [];

  constructor(name: string, { rules, store, marks }: { readonly rules: Rules; readonly store: Store; readonly marks: Mark[] }) {
    this.name = name;
    this.#rules = rules;
    this.#store = store;
    this.#marks = marks;
  }

  step(isStale: boolean): Said {
    if (this.#state === "idle") return this.#begin();
    if (this.#state === "packs") return this.#listPoints(isStale);
    if (this.#state === "points") return this.#record();
    return this.#remove();
  }

  /** Until nothing is left to do. */
  finish(): void {
    do this.step(false);
    while (this.#state !== "idle");
  }

  die(): Said {
    this.#state = "idle";
    return () => "dies";
  }

  #begin(): Said {
    this.#at = this.#store.clock();
    this.#packs = this.#store.packs;
    this.#state = "packs";
    return () => `lists packs ${bits(this.#packs)}`;
  }

  #listPoints(isStale: boolean): Said {
    this.#listed = this.#store.list(isStale);
    this.#state = "points";
    return () => `lists ${this.#listed.length} points`;
  }

  #record(): Said {
    const isRoot = ({ marked }: Listed): boolean => marked === null || this.#rules.isRoot(marked, this.#at);
    const reached = this.#listed.filter(isRoot).reduce((all, { point }) => all | point.packs, 0);
    let unreferenced = 0;
    for (const [i, stored] of this.#store.stored.entries())
      if ((this.#packs & ~reached & (1 << i)) !== 0 && this.#rules.isOld(stored, this.#at)) unreferenced |= 1 << i;
    const forgotten = this.#listed.filter((one) => !isRoot(one)).map(({ point }) => point);
    this.#removing = this.#marks
      .filter(({ at }) => this.#rules.mayRemove(at, this.#at))
      .reduce((all, mark) => all | (mark.unreferenced & unreferenced), 0);
    this.#forgotten = [...forgotten];
    this.#marks.push({ at: this.#at, unreferenced, forgotten });
    this.#state = "sweeps";
    return () => `records ${bits(unreferenced)}, removes ${bits(this.#removing)} and ${forgotten.length} points`;
  }

  #remove(): Said {
    const point = this.#forgotten.pop();
    if (point !== undefined) {
      point.isThere = false;
      return () => "removes a forgotten point";
    }
    if (this.#removing === 0) {
      this.#state = "idle";
      return () => "is done";
    }
    const pack = this.#removing & -this.#removing;
    this.#removing &= ~pack;
    this.#store.packs &= ~pack;
    return () => `removes ${bits(pack)}`;
  }
}
