import { Random } from "./random.ts";
import type { Rules } from "./rules.ts";
import { World } from "./world.ts";

/** A schedule that ended badly. */
export interface Violation {
  readonly seed: number;
  readonly what: string;
  /** every step until then */
  readonly trace: readonly string[];
}

const STEPS = 90;

/** Runs schedules of a random order of steps, one a seed, until one breaks what must hold. Resolves with it, or null. */
export function explore(rules: Rules, { from, schedules }: { readonly from: number; readonly schedules: number }): Violation | null {
  for (let seed = from; seed < from + schedules; seed++) {
    if (run(rules, seed, null) !== null) {
      // Once more, written down.
      const trace: string[] = [];
      return { seed, what: run(rules, seed, trace) ?? "", trace };
    }
  }
  return null;
}

function run(rules: Rules, seed: number, trace: string[] | null): string | null {
  const random = new Random(seed);
  const world = new World(rules, random, trace);
  for (let i = 0; i < STEPS; i++) {
    world.step();
    if (world.broken !== null) return world.broken;
  }
  world.settle();
  return world.broken;
}
