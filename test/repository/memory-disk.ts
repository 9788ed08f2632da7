import type { ByteRange, DiskContent, Extent, ReadRequest } from "../../src/repository/index.ts";

/** A disk in memory that keeps its own dirty map at sector granularity, as a guest's writes would. */
export class MemoryDisk implements DiskContent {
  readonly name: string;
  bytes: Buffer;
  /** sectors written since the last `checkpoint` */
  #dirty: Uint8Array;
  trackChanges = false;

  constructor(name: string, size: number) {
    this.name = name;
    this.bytes = Buffer.alloc(size);
    this.#dirty = new Uint8Array(Math.ceil(size / SECTOR));
  }

  get size(): number {
    return this.bytes.length;
  }

  write(offset: number, data: Buffer): void {
    data.copy(this.bytes, offset);
    this.#dirty.fill(1, Math.floor(offset / SECTOR), Math.ceil((offset + data.length) / SECTOR));
  }

  resize(size: number): void {
    const bytes = Buffer.alloc(size);
    this.bytes.copy(bytes);
    const dirty = new Uint8Array(Math.ceil(size / SECTOR));
    dirty.set(this.#dirty.subarray(0, dirty.length));
    this.bytes = bytes;
    this.#dirty = dirty;
  }

  checkpoint(): void {
    this.#dirty.fill(0);
    this.trackChanges = true;
  }

  async *extents(_signal?: AbortSignal, range?: ByteRange): AsyncGenerator<Extent, void, undefined> {
    let offset = range?.offset ?? 0;
    const last = offset + (range?.length ?? this.size);
    while (offset < last) {
      const state = this.#state(offset);
      let end = offset + SECTOR;
      while (end < last && this.#state(end) === state) end += SECTOR;
      end = Math.min(end, last);
      yield { offset, length: end - offset, state };
      offset = end;
    }
  }

  async read(requests: readonly ReadRequest[]): Promise<void> {
    for (const { offset, into } of requests) into.set(this.bytes.subarray(offset, offset + into.length));
  }

  #state(offset: number): Extent["state"] {
    const clean = this.trackChanges && this.#dirty[Math.floor(offset / SECTOR)] === 0;
    if (clean) return "clean";
    const sector = this.bytes.subarray(offset, offset + SECTOR);
    return sector.equals(zeros.subarray(0, sector.length)) ? "zero" : "data";
  }
}

const SECTOR = 4096;
const zeros = Buffer.alloc(SECTOR);
