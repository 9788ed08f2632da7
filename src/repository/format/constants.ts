/** Numbers of the format, as FORMAT.md has them. */
export const FORMAT_VERSION = 1;
/** bytes of disk in one granule */
export const GRANULE = 65_536;
/** children of a map node */
export const FANOUT = 32;
export const HASH_LENGTH = 32;
export const PACK_ID_LENGTH = 16;
export const RUN_ID_LENGTH = 12;
export const TAG_LENGTH = 16;
/** bytes; a reader refuses larger packs */
export const MAX_PACK_LENGTH: number = 64 * 1024 * 1024;
/** bytes of text in one piece of a capture */
export const CAPTURE_PIECE: number = 1024 * 1024;

export type FrameKind = 1 | 2 | 3 | 4;
export const FrameKind: { readonly granule: 1; readonly node: 2; readonly capture: 3; readonly table: 4 } = {
  granule: 1,
  node: 2,
  capture: 3,
  table: 4,
};

export type Codec = 0 | 1 | 2;
export const Codec: { readonly none: 0; readonly lz4: 1; readonly zstd: 2 } = { none: 0, lz4: 1, zstd: 2 };

export type DocumentKind = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12;
export const DocumentKind: {
  readonly domainKey: 1;
  readonly point: 2;
  readonly head: 3;
  readonly hints: 4;
  readonly usage: 5;
  readonly mark: 6;
  readonly damage: 7;
  readonly locks: 8;
  readonly sums: 9;
  readonly sparse: 10;
  readonly domainName: 11;
  readonly destroyedDomain: 12;
} = {
  domainKey: 1,
  point: 2,
  head: 3,
  hints: 4,
  usage: 5,
  mark: 6,
  damage: 7,
  locks: 8,
  sums: 9,
  sparse: 10,
  domainName: 11,
  destroyedDomain: 12,
};
