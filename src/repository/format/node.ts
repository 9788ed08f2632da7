import { Codec, FANOUT, GRANULE, HASH_LENGTH, PACK_ID_LENGTH, TAG_LENGTH } from "./constants.ts";
import { damaged } from "./errors.ts";
import { checkReference, type Reference } from "./reference.ts";

const HEADER = 8;
const ENTRY = 12 + HASH_LENGTH;
const MAX_LEVEL = 8;
/** bytes of the longest node as stored */
const MAX_NODE: number = HEADER + FANOUT * (PACK_ID_LENGTH + ENTRY) + TAG_LENGTH;

/** A map node: 32 children, each a reference or, where all is zero, nothing. */
export interface MapNode {
  readonly level: number;
  /** 32 of them */
  readonly children: readonly (Reference | null)[];
}

/** Bytes of disk below one child of a node of this level. */
export function childSpan(level: number): number {
  return GRANULE * FANOUT ** level;
}

/** Level of the root of a disk's map: the smallest whose span covers it. @param size bytes */
export function rootLevel(size: number): number {
  let level = 0;
  while (childSpan(level + 1) < size) level++;
  return level;
}

/** FORMAT.md §7. A node without children has no encoding: its reference is simply absent. */
export function encodeNode(node: MapNode): Buffer {
  const present = node.children.filter((child) => child !== null);
  const packs = [...new Set(present.map((child) => child.pack))];
  const bytes = Buffer.alloc(HEADER + packs.length * PACK_ID_LENGTH + present.length * ENTRY);
  bytes[0] = node.level;
  bytes[1] = packs.length;
  bytes.writeUInt32LE(bitmap(node.children), 4);
  packs.forEach((pack, i) => bytes.write(pack, HEADER + i * PACK_ID_LENGTH, "hex"));
  let at = HEADER + packs.length * PACK_ID_LENGTH;
  for (const child of present) {
    bytes[at] = packs.indexOf(child.pack);
    bytes[at + 1] = child.codec;
    bytes.writeUInt32LE(child.offset, at + 4);
    bytes.writeUInt32LE(child.length, at + 8);
    child.hash.copy(bytes, at + 12);
    at += ENTRY;
  }
  return bytes;
}

/** Rejects anything that `encodeNode` could not have written for this level. */
export function decodeNode(bytes: Buffer, level: number): MapNode {
  if (bytes.length < HEADER || bytes[0] !== level || level > MAX_LEVEL) throw damaged("A map node has the wrong level");
  const bits = bytes.readUInt32LE(4);
  const packs = decodePacks(bytes, popcount(bits));
  const children: (Reference | null)[] = Array.from({ length: FANOUT }, () => null);
  let at = HEADER + packs.length * PACK_ID_LENGTH;
  let packsSeen = 0;
  for (let i = 0; i < FANOUT; i++) {
    if ((bits & (1 << i)) === 0) continue;
    // In order of first use: a node has one encoding, so that two of the same content have the same hash.
    const index = bytes[at] ?? 255;
    if (index > packsSeen) throw damaged("A map node lists its packs out of order");
    if (index === packsSeen) packsSeen++;
    children[i] = requireChild(decodeEntry(bytes, at, packs), level);
    at += ENTRY;
  }
  if (packsSeen !== packs.length) throw damaged("A map node lists a pack it does not use");
  return { level, children };
}

/** The packs a node lists. Rejects a node whose length does not fit them and its children. */
function decodePacks(bytes: Buffer, children: number): string[] {
  const count = bytes[1] ?? 0;
  const fits = bytes.length === HEADER + count * PACK_ID_LENGTH + children * ENTRY;
  if (count === 0 || count > children || !fits || bytes.readUInt16LE(2) !== 0) throw damaged("A map node has the wrong length");
  const packs = Array.from({ length: count }, (_, i) =>
    bytes.toString("hex", HEADER + i * PACK_ID_LENGTH, HEADER + (i + 1) * PACK_ID_LENGTH),
  );
  if (new Set(packs).size !== count) throw damaged("A map node lists a pack twice");
  return packs;
}

/** So that fetching what a node refers to never takes more memory than it can need. */
function requireChild(child: Reference, level: number): Reference {
  const possible = level === 0 ? child.length <= GRANULE + TAG_LENGTH : child.codec === Codec.none && child.length <= MAX_NODE;
  if (!possible) throw damaged("A map node's child is longer than it can be");
  return child;
}

function decodeEntry(bytes: Buffer, at: number, packs: readonly string[]): Reference {
  const pack = packs[bytes[at] ?? 255];
  if (pack === undefined || bytes.readUInt16LE(at + 2) !== 0) throw damaged("A map node names a pack it does not list");
  return checkReference({
    pack,
    codec: bytes[at + 1] ?? 255,
    offset: bytes.readUInt32LE(at + 4),
    length: bytes.readUInt32LE(at + 8),
    hash: bytes.subarray(at + 12, at + ENTRY),
  });
}

function bitmap(children: readonly (Reference | null)[]): number {
  let bits = 0;
  children.forEach((child, i) => {
    if (child !== null) bits |= 1 << i;
  });
  return bits >>> 0;
}

function popcount(bits: number): number {
  let count = 0;
  for (let rest = bits >>> 0; rest !== 0; rest &= rest - 1) count++;
  return count;
}
