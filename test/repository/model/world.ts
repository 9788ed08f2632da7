import { type Mark, Pruner } from "./pruner.ts";
import type { Random } from "./random.ts";
import { GRACE, MAX_RUN, type Rules, SKEW } from "./rules.ts";
import { type Point, Store } from "./store.ts";
import { bits, Writer } from "./writer.ts";

/** Hours that pass at once: moments, and what lies around the limits. */
const PASSES = [0.1, 0.1, 0.1, 1, 1, 5, MAX_RUN - 1, MAX_RUN, GRACE - 2, GRACE - 1, GRACE, GRACE + 2, 3 * GRACE];

/** A restore that goes on. */
interface Restore {
  readonly point: Point;
  readonly since: number;
}

/** Three writers, two prunes, restores and somebody who forgets, at one store; one step of one of them at a time. */
export class World {
  /** What must not be was seen; null while all is well. */
  broken: string | null = null;
  readonly #store: Store;
  readonly #random: Random;
  readonly #writers: readonly Writer[];
  readonly #pruners: readonly Pruner[];
  readonly #restores: Restore[] = [];
  readonly #trace: string[] | null;

  constructor(rules: Rules, random: Random, trace: string[] | null) {
    this.#random = random;
    this.#trace = trace;
    this.#store = new Store(random);
    const marks: Mark[] = [];
    const parts = { rules, random, store: this.#store, marks };
    this.#writers = ["backup a", "backup b", "backup c"].map((name) => new Writer(name, parts));
    this.#pruners = ["prune a", "prune b"].map((name) => new Pruner(name, parts));
  }

  step(): void {
    const choice = this.#random.next();
    if (choice < 0.5) this.#work(this.#random.pick(this.#writers));
    else if (choice < 0.75) this.#work(this.#random.pick(this.#pruners));
    else if (choice < 0.85) this.#forget();
    else if (choice < 0.9) this.#restore();
    else this.#pass(this.#random.pick(PASSES) ?? 1);
    this.#look();
  }

  /** Everybody stops, time passes, prune runs often enough: what is left is what is needed. */
  settle(): void {
    for (const writer of this.#writers) writer.die();
    for (const pruner of this.#pruners) pruner.die();
    const [pruner] = this.#pruners;
    for (let i = 0; i < 3; i++) {
      this.#store.time += GRACE + 4 * SKEW;
      pruner?.finish();
      this.#look();
    }
    const needed = this.#store.live().reduce((all, { packs }) => all | packs, 0);
    if (this.#store.packs !== needed) this.#break(`left behind: ${bits(this.#store.packs & ~needed)}`);
  }

  #work(actor: Writer | Pruner | undefined): void {
    if (actor === undefined) return;
    const isStale = this.#random.chance(0.4);
    const did = this.#random.chance(0.03) ? actor.die() : actor.step(isStale);
    this.#trace?.push(`${this.#store.time.toFixed(1)} h: ${actor.name} ${did()}`);
  }

  #forget(): void {
    const point = this.#random.pick(this.#store.live());
    if (point === undefined) return;
    point.marked = this.#store.clock();
    point.markedAt = this.#store.time;
    this.#trace?.push(`${this.#store.time.toFixed(1)} h: a point with ${bits(point.packs)} is forgotten`);
  }

  /** One begins, or one ends: that took no longer than a run may, it read everything. */
  #restore(): void {
    const ended = this.#random.chance(0.5) ? this.#restores.pop() : undefined;
    const point = this.#random.pick(this.#store.live());
    if (ended === undefined && point !== undefined) this.#restores.push({ point, since: this.#store.time });
    if (ended === undefined || this.#store.time - ended.since > MAX_RUN) return;
    const lost = ended.point.packs & ~this.#store.packs;
    if (lost !== 0) this.#break(`a restore did not find ${bits(lost)}`);
  }

  #pass(hours: number): void {
    this.#store.time += hours;
    this.#trace?.push(`${hours} h pass`);
  }

  #look(): void {
    const lost = this.#store.needed() & ~this.#store.packs;
    if (lost !== 0) this.#break(`removed though a point refers to it: ${bits(lost)}`);
  }

  #break(what: string): void {
    this.broken ??= what;
    this.#trace?.push(`BROKEN: ${what}`);
  }
}
