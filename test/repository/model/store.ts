import type { Random } from "./random.ts";
import { GRACE, SKEW } from "./rules.ts";

/** Longest that a list may lag behind, hours. */
const STALE = 6;
/** Packs have one bit each. */
export const MOST_PACKS = 30;

export interface Point {
  readonly vm: number;
  readonly packs: number;
  readonly committed: number;
  /** by the store's clock; null: nobody forgot it */
  marked: number | null;
  /** the same by the true one */
  markedAt: number;
  isThere: boolean;
}

/** What a list tells prune of a point. */
export interface Listed {
  readonly point: Point;
  readonly marked: number | null;
}

/** An object store: what it holds, and its clock, which is wrong. Sets of packs are bits of a number. */
export class Store {
  /** true hours */
  time = 100;
  packs = 0;
  readonly stored: number[] = [];
  readonly points: Point[] = [];
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The time as some answer of the store has it. */
  clock(): number {
    const wrong = this.#random.below(3) - 1;
    return this.time + wrong * SKEW;
  }

  get isFull(): boolean {
    return this.stored.length >= MOST_PACKS;
  }

  addPack(): number {
    const bit = 1 << this.stored.length;
    this.stored.push(this.clock());
    this.packs |= bit;
    return bit;
  }

  live(): readonly Point[] {
    return this.points.filter(({ isThere, marked }) => isThere && marked === null);
  }

  /** Points and their markers as a list has them; a stale one lacks some of what is new. */
  list(isStale: boolean): readonly Listed[] {
    const isSeen = (since: number): boolean => !isStale || this.time - since > STALE || this.#random.chance(0.3);
    return this.points
      .filter(({ isThere, committed }) => isThere && isSeen(committed))
      .map((point) => ({ point, marked: point.marked !== null && isSeen(point.markedAt) ? point.marked : null }));
  }

  /** Packs that the points who may count on them refer to: those nobody forgot, and those forgotten so lately that a restore may go on. */
  needed(): number {
    return this.points
      .filter(({ isThere, marked, markedAt }) => isThere && (marked === null || this.time - markedAt < GRACE - 4 * SKEW))
      .reduce((all, { packs }) => all | packs, 0);
  }
}
