import { createHash } from "node:crypto";
import type { DiskSpec } from "../lab/index.ts";

export const GRANULE: number = 65_536;
const HASH = 32;

/** What a disk held at one instant: its size and the SHA-256 of every 64 KiB of it. */
export interface DiskImprint {
  readonly size: number;
  readonly hashes: Buffer;
}

/** A disk whose true content is known at every moment, independent of QEMU and of what is tested. */
export class DiskModel {
  readonly spec: DiskSpec;
  #content: Buffer;
  #hashes: Buffer;
  readonly #stale = new Set<number>();

  constructor(spec: DiskSpec, size: number) {
    this.spec = spec;
    this.#content = Buffer.alloc(size);
    this.#hashes = Buffer.alloc(Math.ceil(size / GRANULE) * HASH);
    this.#touch(0, size);
  }

  get size(): number {
    return this.#content.length;
  }

  /** Content of a range, not a copy. */
  at(offset: number, length: number): Buffer {
    return this.#content.subarray(offset, offset + length);
  }

  write(offset: number, bytes: Buffer): void {
    bytes.copy(this.#content, offset);
    this.#touch(offset, bytes.length);
  }

  fill(offset: number, length: number, value: number): void {
    this.#content.fill(value, offset, offset + length);
    this.#touch(offset, length);
  }

  grow(size: number): void {
    const before = this.#content;
    this.#content = Buffer.alloc(size);
    before.copy(this.#content);
    const hashes = Buffer.alloc(Math.ceil(size / GRANULE) * HASH);
    this.#hashes.copy(hashes);
    this.#hashes = hashes;
    this.#touch(before.length - 1, size - before.length + 1);
  }

  /** It shrank to `size` and grew to what it was. */
  regrow(size: number): void {
    this.write(size, Buffer.alloc(this.size - size));
  }

  /** What the disk turned out to hold. */
  load(content: Buffer): void {
    if (content.length !== this.size) throw new Error(`${this.spec.name} has ${content.length} bytes instead of ${this.size}`);
    this.write(0, content);
  }

  imprint(): DiskImprint {
    for (const granule of this.#stale) hashGranule(this.#content, granule, this.#hashes);
    this.#stale.clear();
    return { size: this.size, hashes: Buffer.from(this.#hashes) };
  }

  #touch(offset: number, length: number): void {
    for (let granule = Math.floor(offset / GRANULE); granule * GRANULE < offset + length; granule++) this.#stale.add(granule);
  }
}

function hashGranule(content: Buffer, granule: number, into: Buffer): void {
  createHash("sha256")
    .update(content.subarray(granule * GRANULE, (granule + 1) * GRANULE))
    .digest()
    .copy(into, granule * HASH);
}

/** Null where `content` is what the imprint was taken of, else the place of the first difference, in words. */
export function differenceFrom(imprint: DiskImprint, content: Buffer): string | null {
  if (content.length !== imprint.size) return `${content.length} bytes instead of ${imprint.size}`;
  const found = Buffer.alloc(HASH);
  for (let granule = 0; granule * GRANULE < content.length; granule++) {
    createHash("sha256")
      .update(content.subarray(granule * GRANULE, (granule + 1) * GRANULE))
      .digest()
      .copy(found);
    if (!found.equals(imprint.hashes.subarray(granule * HASH, (granule + 1) * HASH))) return `offset ${granule * GRANULE}`;
  }
  return null;
}
