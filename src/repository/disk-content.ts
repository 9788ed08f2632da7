/** What the repository needs to know of a disk to back it up; any engine's disk satisfies it. */
export interface DiskContent {
  /** Target name, e.g. `vda`. */
  readonly name: string;
  /** bytes, of the virtual disk */
  readonly size: number;
  /** Extents in ascending order, without gap or overlap, of the whole disk or of the range. */
  extents(signal: AbortSignal, range?: ByteRange): AsyncIterable<Extent>;
  /** Fills every request's buffer; several calls may be in flight. Buffers may be backed by a SharedArrayBuffer. */
  read(requests: readonly ReadRequest[], signal: AbortSignal): Promise<void>;
}

export interface ByteRange {
  /** bytes */
  readonly offset: number;
  /** bytes */
  readonly length: number;
}

export interface Extent {
  /** bytes */
  readonly offset: number;
  /** bytes, > 0 */
  readonly length: number;
  /** `clean`: as in the base image; `zero`: written since, reads as zeros; `data`: must be read (and may still turn out to be zeros) */
  readonly state: "clean" | "data" | "zero";
}

export interface ReadRequest {
  /** bytes */
  readonly offset: number;
  readonly into: Uint8Array;
}
