import type { Random } from "./random.ts";
import type { Rules } from "./rules.ts";
import type { Point, Store } from "./store.ts";

/** What somebody did, for who wants to read it. */
export type Said = () => string;

type State = "idle" | "begun" | "looked" | "stands" | "checked";

/** A backup: looks for what it may stand on, stores packs, commits; pauses wherever it likes, and may die anywhere. */
export class Writer {
  readonly name: string;
  readonly #rules: Rules;
  readonly #store: Store;
  readonly #random: Random;
  #state: State = "idle";
  #since = 0;
  #packs = 0;
  #vm = 0;
  #sent = 0;
  #committed: Point | null = null;

  constructor(name: string, { rules, store, random }: { readonly rules: Rules; readonly store: Store; readonly random: Random }) {
    this.name = name;
    this.#rules = rules;
    this.#store = store;
    this.#random = random;
  }

  /** One step of it; says what it did. */
  step(): Said {
    if (this.#state === "idle") return this.#begin();
    if (this.#state === "begun") return this.#stand();
    if (this.#state === "looked") return this.#note();
    if (this.#state === "stands") return this.#store.isFull || this.#random.chance(0.5) ? this.#check() : this.#upload();
    return this.#deliver();
  }

  die(): Said {
    return this.#end("dies");
  }

  #end(how: string): Said {
    this.#state = "idle";
    this.#committed = null;
    return () => how;
  }

  #begin(): Said {
    this.#vm = this.#random.below(2);
    this.#packs = 0;
    this.#committed = null;
    if (this.#rules.notesTimeFirst) this.#since = this.#store.clock();
    this.#state = "begun";
    return () => `begins for vm ${this.#vm}`;
  }

  /** Its machine's newest point, and perhaps an image of another: what is clean, or the same, is referred to. */
  #stand(): Said {
    const all = this.#rules.standsOnForgotten ? this.#store.points.filter(({ isThere }) => isThere) : this.#store.live();
    const base = all.findLast(({ vm }) => vm === this.#vm);
    const similar = this.#random.chance(0.3) ? this.#random.pick(all) : undefined;
    for (const point of [base, similar]) if (point !== undefined) this.#packs |= this.#random.someOf(point.packs);
    this.#state = this.#rules.notesTimeFirst ? "stands" : "looked";
    return () => `stands on ${bits(this.#packs)}`;
  }

  #note(): Said {
    this.#since = this.#store.clock();
    this.#state = "stands";
    return () => "notes the time";
  }

  #upload(): Said {
    const pack = this.#store.addPack();
    this.#packs |= pack;
    return () => `stores ${bits(pack)}`;
  }

  #check(): Said {
    if (!this.#rules.mayCommit(this.#since, this.#store.clock())) return this.#end("is too old");
    this.#sent = this.#store.time;
    this.#state = "checked";
    return () => "sends its point";
  }

  /** The request arrives: late, never, or twice. */
  #deliver(): Said {
    if (this.#random.chance(0.1)) return this.#end("is not heard");
    if (!this.#rules.isAccepted(this.#store.time - this.#sent)) return this.#end("is refused");
    const { time: committed } = this.#store;
    if (this.#committed === null) {
      this.#committed = { vm: this.#vm, packs: this.#packs, committed, marked: null, markedAt: 0, isThere: true };
      this.#store.points.push(this.#committed);
    } else if (!this.#committed.isThere) {
      // The point was removed meanwhile, so its key is free: the second request makes it anew.
      this.#committed.isThere = true;
      this.#committed.marked = null;
    }
    if (this.#random.chance(0.7)) this.#state = "idle";
    return () => `commits ${bits(this.#packs)}`;
  }
}

export function bits(mask: number): string {
  const all = Array.from({ length: 32 }, (_, i) => i).filter((i) => (mask & (1 << i)) !== 0);
  return `{${all.join(" ")}}`;
}
