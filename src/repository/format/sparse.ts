import { PACK_ID_LENGTH } from "./constants.ts";
import { asArray, asHex, asObject, asString, parseObject } from "./json.ts";

/** Packs named in one record; what is beyond waits for a later one. */
const MAX_PACKS = 16_384;
/** bytes that a record has at most as stored: 35 for each name, before compression, and those of the disks */
export const MAX_SPARSE_BYTES: number = 1024 * 1024;

/** Packs of which little is needed, by the name of the disk whose newest image needs them, FORMAT.md §10. */
export type SparseRecord = ReadonlyMap<string, readonly string[]>;

/** Of each disk the first packs are kept, where there are too many. */
export function encodeSparse(disks: SparseRecord): Buffer {
  const share = Math.floor(MAX_PACKS / Math.max(1, disks.size));
  return Buffer.from(JSON.stringify({ disks: [...disks].map(([disk, packs]) => ({ disk, packs: packs.slice(0, share) })) }));
}

export function decodeSparse(bytes: Uint8Array): SparseRecord {
  const found = new Map<string, readonly string[]>();
  let left = MAX_PACKS;
  for (const value of asArray(parseObject(bytes, "The sparse packs")["disks"], "The disks of the sparse packs")) {
    const { disk, packs } = asObject(value, "A disk of the sparse packs");
    const ids = asArray(packs, "A disk's sparse packs")
      .slice(0, left)
      .map((pack) => asHex(pack, "A sparse pack", PACK_ID_LENGTH).toString("hex"));
    left -= ids.length;
    found.set(asString(disk, "A disk of the sparse packs"), ids);
  }
  return found;
}
