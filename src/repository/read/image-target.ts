/** Where a restored image goes. Calls may overlap in time, never in range. */
export interface ImageTarget {
  /** Whether what is not written reads as zeros already. */
  readonly blank: boolean;
  /** Of a blank target: bytes of the smallest stretch, aligned to its length, that takes no room while it is not written; default a granule. */
  readonly grain?: number;
  /** `bytes` may be backed by a SharedArrayBuffer and is used again once the promise settles. */
  write(offset: number, bytes: Buffer): Promise<void>;
  /** Makes a range zeros, without allocating it where that can be had. */
  zero(offset: number, length: number): Promise<void>;
}
