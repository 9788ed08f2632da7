import { PACK_ID_LENGTH } from "./constants.ts";
import { asArray, asCount, asHex, asObject, asString, parseObject } from "./json.ts";

/** Packs and disks remembered; with more of them nothing is compared, and everything read. */
const MAX_PACKS = 4096;
const MAX_OFFSETS = 4096;
const MAX_POINTS = 65_536;

/** What a check found damaged, FORMAT.md §10. */
export interface DamageRecord {
  /** by pack, the offsets of damaged frames, or null: all of it. Null altogether: any pack may be. */
  readonly packs: ReadonlyMap<string, ReadonlySet<number> | null> | null;
  /** by id of a machine's newest point, the names of its disks that need what is damaged; null: all of them */
  readonly points: ReadonlyMap<string, ReadonlySet<string> | null>;
}

export function encodeDamage({ packs, points }: DamageRecord): Buffer {
  const isShort = packs !== null && packs.size <= MAX_PACKS;
  const json = {
    packs: isShort ? [...packs].map(([pack, offsets]) => ({ pack, offsets: offsetsOf(offsets) })) : null,
    points: [...points].slice(0, MAX_POINTS).map(([point, disks]) => ({ point, disks: disks === null ? null : [...disks] })),
  };
  return Buffer.from(JSON.stringify(json));
}

function offsetsOf(offsets: ReadonlySet<number> | null): readonly number[] | null {
  return offsets === null || offsets.size > MAX_OFFSETS ? null : [...offsets];
}

export function decodeDamage(bytes: Uint8Array): DamageRecord {
  const json = parseObject(bytes, "The record of damage");
  const packs = json["packs"] === null ? null : new Map(asArray(json["packs"], "The damaged packs").map(decodePack));
  return { packs, points: new Map(asArray(json["points"], "The damaged points").map(decodePoint)) };
}

function decodePack(value: unknown): [string, ReadonlySet<number> | null] {
  const { pack, offsets } = asObject(value, "A damaged pack");
  const id = asHex(pack, "A damaged pack", PACK_ID_LENGTH).toString("hex");
  return [id, offsets === null ? null : new Set(asArray(offsets, "A pack's damage").map((one) => asCount(one, "An offset")))];
}

function decodePoint(value: unknown): [string, ReadonlySet<string> | null] {
  const { point, disks } = asObject(value, "A damaged point");
  const names = disks === null ? null : new Set(asArray(disks, "A point's disks").map((one) => asString(one, "A disk")));
  return [asString(point, "A damaged point"), names];
}
