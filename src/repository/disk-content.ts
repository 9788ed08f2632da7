/** What the repository needs to know of a disk to back it up; any engine's disk satisfies it. */
export interface DiskContent {
  /** Target name, e.g. `vda`. */
  readonly name: string;
  /** bytes, of the virtual disk */
  readonly size: number;
  /** Extents in ascending order, without gap or overlap, of the whole disk or of the range. */
  extents(signal: AbortSignal, scope?: ExtentScope): AsyncIterable<Extent>;
  /** Fills every request's buffer; several calls may be in flight. Buffers may be backed by a SharedArrayBuffer. */
  read(requests: readonly ReadRequest[], signal: AbortSignal): Promise<void>;
}

export interface ExtentScope {
  /** bytes; default: from 0 to the disk's size */
  readonly range?: { readonly offset: number; readonly length: number };
  /** Whether zeros are looked for in what is unchanged, and told as `blank`. It costs a look at all that is allocated. */
  readonly doubtClean?: boolean;
}

export interface Extent {
  /** bytes */
  readonly offset: number;
  /** bytes, > 0 */
  readonly length: number;
  /**
   * `clean`: as in the base image; `zero`: written since, reads as zeros; `data`: must be read (and may still turn out to be zeros); `blank`: nobody wrote
   * to it since and it reads as zeros, whatever the base image has there: a disk that shrank and grew lost it without a write.
   */
  readonly state: "clean" | "data" | "zero" | "blank";
}

export interface ReadRequest {
  /** bytes */
  readonly offset: number;
  readonly into: Uint8Array;
}
