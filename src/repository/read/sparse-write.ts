import type { ImageTarget } from "./image-target.ts";

const ZEROS = Buffer.alloc(65_536);

/** Writes a stretch of a disk, leaving out of a blank target what is zeros in whole grains. `bytes` begin at a multiple of the grain. */
export async function writeSparse(target: ImageTarget, offset: number, bytes: Buffer): Promise<void> {
  const grain = target.blank ? Math.min(target.grain ?? ZEROS.length, ZEROS.length) : bytes.length;
  let from = 0;
  for (let at = 0; at < bytes.length; at += grain) {
    if (!target.blank || !isZero(bytes, at, Math.min(at + grain, bytes.length))) continue;
    if (at > from) await target.write(offset + from, bytes.subarray(from, at));
    from = at + grain;
  }
  if (from < bytes.length) await target.write(offset + from, bytes.subarray(from));
}

// Nearly all data shows in its first bytes that it is not zeros; only the rest is looked at in whole.
function isZero(bytes: Buffer, from: number, to: number): boolean {
  if (bytes[from] !== 0 || bytes[to - 1] !== 0) return false;
  return bytes.compare(ZEROS, 0, to - from, from, to) === 0;
}
