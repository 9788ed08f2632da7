import { PACK_ID_LENGTH, RUN_ID_LENGTH } from "./constants.ts";
import { damaged } from "./errors.ts";

/** No run has more packs than this: 4,194,304 of 8 MiB are 32 TiB of map alone. */
export const MAX_ORDINAL: number = 2 ** 22;
const NONE = new Float64Array(0);
const RUN_DIGITS = RUN_ID_LENGTH * 2;

/**
 * A number for each of many packs, zero where nothing was said. Packs of one run are numbered from zero, so ten million of them take
 * eight bytes each and not the hundred of a map's entry.
 */
export class PackNumbers {
  readonly #runs = new Map<string, Float64Array>();

  /** @param pack 32 hex digits */
  get(pack: string): number {
    return this.#runs.get(pack.slice(0, RUN_DIGITS))?.[ordinalOf(pack)] ?? 0;
  }

  /** @param value whole, at least 0 */
  set(pack: string, value: number): void {
    const ordinal = ordinalOf(pack);
    this.#room(pack.slice(0, RUN_DIGITS), ordinal)[ordinal] = value;
  }

  /** @param run 24 hex digits */
  setAt(run: string, ordinal: number, value: number): void {
    this.#room(run, ordinal)[ordinal] = value;
  }

  /** A run's numbers from ordinal zero on, perhaps fewer than it has packs; not to be changed. */
  ofRun(run: string): Float64Array {
    return this.#runs.get(run) ?? NONE;
  }

  /** Raises every number to that of `other`, where it is less. */
  raise(other: PackNumbers): void {
    for (const [run, numbers] of other.#runs) {
      const mine = this.#room(run, numbers.length - 1);
      for (let ordinal = 0; ordinal < numbers.length; ordinal++) mine[ordinal] = Math.max(mine[ordinal] ?? 0, numbers[ordinal] ?? 0);
    }
  }

  /** Adds the numbers of `other`. */
  add(other: PackNumbers): void {
    for (const [run, numbers] of other.#runs) {
      const mine = this.#room(run, numbers.length - 1);
      for (let ordinal = 0; ordinal < numbers.length; ordinal++) mine[ordinal] = (mine[ordinal] ?? 0) + (numbers[ordinal] ?? 0);
    }
  }

  /** Packs and their numbers that are not zero, run by run, each run's in order. */
  *entries(): Generator<readonly [pack: string, value: number], void, undefined> {
    for (const [run, numbers] of this.#runs) {
      for (let ordinal = 0; ordinal < numbers.length; ordinal++) {
        const value = numbers[ordinal] ?? 0;
        if (value !== 0) yield [run + ordinal.toString(16).padStart(8, "0"), value];
      }
    }
  }

  /** Of each run, in order of its name, the numbers from ordinal zero on; not to be changed. */
  runs(): readonly (readonly [run: string, numbers: Float64Array])[] {
    return [...this.#runs].toSorted(([a], [b]) => (a < b ? -1 : 1));
  }

  #room(run: string, ordinal: number): Float64Array {
    const known = this.#runs.get(run);
    if (known !== undefined && ordinal < known.length) return known;
    const grown = new Float64Array(known === undefined ? ordinal + 1 : Math.max(ordinal + 1, Math.ceil(known.length * 1.5)));
    if (known !== undefined) grown.set(known);
    this.#runs.set(run, grown);
    return grown;
  }
}

function ordinalOf(pack: string): number {
  const ordinal = Number.parseInt(pack.slice(RUN_DIGITS), 16);
  if (pack.length !== PACK_ID_LENGTH * 2 || !(ordinal < MAX_ORDINAL)) throw damaged(`${pack} is not the name of a pack`);
  return ordinal;
}
