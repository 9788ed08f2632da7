import { createHash, randomBytes } from "node:crypto";

import type { ByteRange, DiskContent, Extent, ReadRequest } from "../../src/repository/index.ts";

const GRANULE = 65_536;

/** Numbers from 0 to below 1 that a seed determines (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** So many different granules of a disk, ascending. */
export function someGranules(count: number, of: number, random: () => number): number[] {
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(Math.floor(random() * of));
  return [...chosen].toSorted((a, b) => a - b);
}

/** Incompressible, and different for each granule and generation: the stamp alone changes every hash. */
const filler = randomBytes(GRANULE);

/** Content of a granule that no other granule and no other generation has. @param offset bytes */
export function granuleContent(generation: number, offset: number): Buffer {
  const content = Buffer.from(filler);
  createHash("sha256").update(`${generation} ${offset}`).digest().copy(content);
  return content;
}

/** A disk of any size of which some granules have changed to `generation`; the others are of generation 0. Holds no data. */
export class BigDisk implements DiskContent {
  readonly name = "vda";
  readonly size: number;
  readonly #dirty: readonly number[];
  readonly #changed: ReadonlySet<number>;
  readonly #generation: number;

  constructor(size: number, dirty: readonly number[], generation: number) {
    this.size = size;
    this.#dirty = dirty;
    this.#changed = new Set(dirty);
    this.#generation = generation;
  }

  async *extents(_signal?: AbortSignal, range?: ByteRange): AsyncGenerator<Extent, void, undefined> {
    const [from, to] = [range?.offset ?? 0, (range?.offset ?? 0) + (range?.length ?? this.size)];
    for await (const { offset, length, state } of this.#all()) {
      const [start, end] = [Math.max(from, offset), Math.min(to, offset + length)];
      if (end > start) yield { offset: start, length: end - start, state };
    }
  }

  async *#all(): AsyncGenerator<Extent, void, undefined> {
    let at = 0;
    for (const granule of this.#dirty) {
      const offset = granule * GRANULE;
      if (offset > at) yield { offset: at, length: offset - at, state: "clean" };
      yield { offset, length: GRANULE, state: "data" };
      at = offset + GRANULE;
    }
    if (at < this.size) yield { offset: at, length: this.size - at, state: "clean" };
  }

  async read(requests: readonly ReadRequest[]): Promise<void> {
    for (const { offset, into } of requests) {
      for (let at = 0; at < into.length; at += GRANULE) {
        const generation = this.#changed.has((offset + at) / GRANULE) ? this.#generation : 0;
        into.set(granuleContent(generation, offset + at), at);
      }
    }
  }
}
