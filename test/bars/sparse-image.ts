import { closeSync, ftruncateSync, openSync, readSync, statSync, writeSync } from "node:fs";

export const TiB: number = 2 ** 40;

/** A raw image with one small piece of data in every `stride` bytes. */
export interface SparseImage {
  /** bytes */
  readonly size: number;
  readonly stride: number;
  /** bytes of each piece, at most 4096 */
  readonly piece: number;
  /** every piece the same, or every piece different */
  readonly equal: boolean;
}

export function piecesOf({ size, stride }: SparseImage): number {
  return Math.floor(size / stride);
}

/** Where piece `i` begins: not at the start of its stride, and not always at the start of a granule. */
function placeOf({ stride }: SparseImage, i: number): number {
  return i * stride + (i % 16) * 4096 + (i % 7) * 65_536;
}

/** Fills `into` with what piece `i` holds: numbers that do not compress to nothing. */
function contentOf(image: SparseImage, i: number, into: Uint32Array): void {
  let x = image.equal ? 1 : i + 1;
  for (let k = 0; k < into.length; k++) {
    x = (Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    into[k] = x;
  }
}

export function makeSparse(path: string, image: SparseImage): void {
  const file = openSync(path, "w");
  const words = new Uint32Array(image.piece / 4);
  const bytes = Buffer.from(words.buffer);
  try {
    ftruncateSync(file, image.size);
    for (let i = 0; i < piecesOf(image); i++) {
      contentOf(image, i, words);
      writeSync(file, bytes, 0, bytes.length, placeOf(image, i));
    }
  } finally {
    closeSync(file);
  }
}

/**
 * Null where the file is this image: every piece is there, and no more blocks are allocated than pieces of one page need, so that nothing else is.
 * Else what differs first.
 */
export function differenceOf(path: string, image: SparseImage): string | null {
  const { size, blocks } = statSync(path);
  if (size !== image.size) return `${size} bytes instead of ${image.size}`;
  if (blocks * 512 > piecesOf(image) * 4096) return `${blocks * 512} bytes are allocated, ${piecesOf(image) * 4096} at most have data`;
  const file = openSync(path, "r");
  const words = new Uint32Array(image.piece / 4);
  const wanted = Buffer.from(words.buffer);
  const found = Buffer.alloc(wanted.length);
  try {
    for (let i = 0; i < piecesOf(image); i++) {
      contentOf(image, i, words);
      readSync(file, found, 0, found.length, placeOf(image, i));
      if (!found.equals(wanted)) return `piece ${i} at ${placeOf(image, i)}`;
    }
    return null;
  } finally {
    closeSync(file);
  }
}
