import type { ByteRange, DiskContent, Extent, ReadRequest } from "../disk-content.ts";
import { GRANULE } from "../format/constants.ts";
import { FrameSealer } from "../format/frame.ts";
import { changedGranules } from "../map/changed-granules.ts";
import { ImageMap, type ImageRoot, type MappedGranule } from "../map/image-map.ts";
import { NodeReader } from "../map/node-reader.ts";
import type { Repository } from "../repository.ts";
import { trustedUpTo } from "../write/disk-writer.ts";
import type { ImageReader } from "./image-reader.ts";
import type { ImageTarget } from "./image-target.ts";

/** Nodes of the maps kept at hand: they are gone through from front to back, and who writes the copy keeps some too. */
const NODES = 512;

export interface ImageContentOptions {
  readonly repository: Repository;
  /** reads granules of that repository */
  readonly reader: ImageReader;
  readonly name: string;
  readonly image: ImageRoot;
  /** an earlier image of the same repository, against which granules are clean; null: nothing is */
  readonly before: ImageRoot | null;
  readonly signal: AbortSignal;
}

/** The image of a point as a disk to be backed up: what it shares with an earlier one is clean, and found without reading any of it. */
export class ImageContent implements DiskContent {
  readonly name: string;
  readonly size: number;
  readonly #options: ImageContentOptions;
  readonly #nodes: NodeReader;
  readonly #map: ImageMap;

  constructor(options: ImageContentOptions) {
    const { name, image, repository, signal } = options;
    const { store, domain, keys } = repository;
    this.name = name;
    this.size = image.size;
    this.#options = options;
    this.#nodes = new NodeReader({ store, domain, signal, sealer: new FrameSealer(keys), nodes: NODES });
    this.#map = new ImageMap(this.#nodes, image);
  }

  async *extents(signal: AbortSignal, range: ByteRange = { offset: 0, length: this.size }): AsyncGenerator<Extent, void, undefined> {
    const { before } = this.#options;
    const [from, to] = [range.offset, range.offset + range.length];
    // An image of another size says nothing of what lies behind the granules that both have whole.
    const border = Math.min(to, Math.max(from, trustedUpTo(this.size, before)));
    yield* joined(this.#stretch(before, { from, to: border, rest: "clean" }, signal));
    yield* joined(this.#stretch(null, { from: border, to, rest: "zero" }, signal));
  }

  async read(requests: readonly ReadRequest[], signal: AbortSignal): Promise<void> {
    const wanted = new Map<number, MappedGranule>();
    for (const request of requests) {
      const end = request.offset + request.into.length;
      for (let granule = Math.floor(request.offset / GRANULE); granule * GRANULE < end; granule++) {
        const reference = await this.#map.lookup(granule);
        if (reference === null) overlay([request], granule * GRANULE, ZEROS);
        else wanted.set(granule, { granule, reference });
      }
    }
    const granules = [...wanted.values()].toSorted((a, b) => a.granule - b.granule);
    await this.#options.reader.copyGranules(this.#options.image, granules, { target: scatter(requests), signal });
  }

  /** @param rest what is between the granules that differ from `before` */
  async *#stretch(
    before: ImageRoot | null,
    { from, to, rest }: { readonly from: number; readonly to: number; readonly rest: Extent["state"] },
    signal: AbortSignal,
  ): AsyncGenerator<Extent, void, undefined> {
    if (from >= to) return;
    let at = from;
    const pair = { before, after: this.#options.image, first: Math.floor(from / GRANULE), end: Math.ceil(to / GRANULE) };
    for await (const { first, count, zero } of changedGranules(this.#nodes, pair)) {
      signal.throwIfAborted();
      const [start, end] = [Math.max(from, first * GRANULE), Math.min(to, (first + count) * GRANULE)];
      if (start > at) yield { offset: at, length: start - at, state: rest };
      yield { offset: start, length: end - start, state: zero ? "zero" : "data" };
      at = end;
    }
    if (at < to) yield { offset: at, length: to - at, state: rest };
  }
}

/** Neighbours of one state as one. */
async function* joined(extents: AsyncIterable<Extent>): AsyncGenerator<Extent, void, undefined> {
  const pending: Extent[] = [];
  for await (const extent of extents) {
    const last = pending.pop();
    if (last !== undefined && last.state !== extent.state) yield last;
    pending.push(last?.state === extent.state ? { ...last, length: last.length + extent.length } : extent);
  }
  yield* pending;
}

const ZEROS: Buffer = Buffer.alloc(GRANULE);

/** A target that fills what was asked for. */
function scatter(requests: readonly ReadRequest[]): ImageTarget {
  return {
    // All of it is written, zeros too: the memory held something else before.
    blank: false,
    write: async (offset, bytes) => overlay(requests, offset, bytes),
    zero: async (offset, length) => {
      for (let at = 0; at < length; at += GRANULE) overlay(requests, offset + at, ZEROS.subarray(0, length - at));
    },
  };
}

/** Puts bytes of the disk where requests ask for them. */
function overlay(requests: readonly ReadRequest[], offset: number, bytes: Uint8Array): void {
  for (const request of requests) {
    const [from, to] = [Math.max(offset, request.offset), Math.min(offset + bytes.length, request.offset + request.into.length)];
    if (from < to) request.into.set(bytes.subarray(from - offset, to - offset), from - request.offset);
  }
}
