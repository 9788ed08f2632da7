import { Codec, FrameKind, HASH_LENGTH, MAX_PACK_LENGTH, PACK_ID_LENGTH, RUN_ID_LENGTH } from "./constants.ts";
import { damaged } from "./errors.ts";
import type { FrameSealer } from "./frame.ts";

const MAGIC = Buffer.from("TSP1");
const END_MAGIC = Buffer.from("TSPE");
export const PACK_HEADER = 32;
export const PACK_TRAILER = 56;
const TABLE_ENTRY = 12 + HASH_LENGTH;

/** One frame as the pack's own table lists it. */
export interface TableEntry {
  readonly kind: FrameKind;
  readonly codec: number;
  readonly offset: number;
  readonly length: number;
  readonly hash: Uint8Array;
}

/** A pack's table while the pack is filled. In its encoded form: a pack may hold a hundred thousand frames, too many to keep as objects. */
export class PackTable {
  #bytes: Buffer = Buffer.alloc(512 * TABLE_ENTRY);
  #frames = 0;

  get frames(): number {
    return this.#frames;
  }

  /** Of what was added; good until the next change. */
  get encoded(): Buffer {
    return this.#bytes.subarray(0, this.#frames * TABLE_ENTRY);
  }

  add(entry: TableEntry): void {
    const at = this.#frames * TABLE_ENTRY;
    if (at === this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(at)]);
    this.#bytes.writeUInt32LE(entry.offset, at);
    this.#bytes.writeUInt32LE(entry.length, at + 4);
    this.#bytes.writeUInt32LE(entry.kind + entry.codec * 256, at + 8);
    this.#bytes.set(entry.hash, at + 12);
    this.#frames++;
  }

  clear(): void {
    this.#frames = 0;
  }
}

/** What the last 56 bytes of a pack say. */
export interface PackTrailer {
  readonly tableHash: Buffer;
  readonly tableOffset: number;
  readonly tableLength: number;
  readonly frames: number;
  readonly packLength: number;
}

/** 32 hex digits. @param runId 12 bytes */
export function packId(runId: Uint8Array, ordinal: number): string {
  const id = Buffer.alloc(PACK_ID_LENGTH);
  id.set(runId);
  id.writeUInt32BE(ordinal, RUN_ID_LENGTH);
  return id.toString("hex");
}

/** The 12 bytes of a pack id that name the run that wrote it. */
export function runOfPack(pack: string): Buffer {
  return Buffer.from(pack.slice(0, RUN_ID_LENGTH * 2), "hex");
}

export function packHeader(pack: string): Buffer {
  const header = Buffer.alloc(PACK_HEADER);
  MAGIC.copy(header);
  header.write(pack, 4, "hex");
  return header;
}

/** Bytes that the table and trailer of so many frames take. */
export function packTailLength(frames: number, overhead: number): number {
  return frames * TABLE_ENTRY + overhead + PACK_TRAILER;
}

/** Table and trailer that close a pack. @param tableOffset bytes of the pack so far */
export function encodePackTail(
  table: PackTable,
  tableOffset: number,
  options: { readonly sealer: FrameSealer; readonly runId: Uint8Array },
): Buffer {
  const sealed = options.sealer.seal(FrameKind.table, table.encoded, { runId: options.runId, codec: Codec.none });
  const tableLength = sealed.stored.reduce((sum, piece) => sum + piece.length, 0);
  const trailer = Buffer.alloc(PACK_TRAILER);
  sealed.hash.copy(trailer);
  [tableOffset, tableLength, table.frames, tableOffset + tableLength + PACK_TRAILER].forEach((value, i) =>
    trailer.writeUInt32LE(value, 32 + 4 * i),
  );
  END_MAGIC.copy(trailer, 52);
  return Buffer.concat([...sealed.stored, trailer]);
}

/** Reads a trailer. @param packLength bytes the store says the pack has */
export function decodePackTrailer(bytes: Buffer, packLength: number): PackTrailer {
  if (bytes.length !== PACK_TRAILER || !bytes.subarray(52).equals(END_MAGIC)) throw damaged("A pack does not end as a pack does");
  const number = (at: number): number => bytes.readUInt32LE(at);
  const trailer = {
    tableHash: bytes.subarray(0, HASH_LENGTH),
    tableOffset: number(32),
    tableLength: number(36),
    frames: number(40),
    packLength: number(44),
  };
  const inside = trailer.packLength === packLength && packLength <= MAX_PACK_LENGTH && number(48) === 0;
  if (!inside || !tableFits(trailer)) throw damaged("A pack's trailer does not fit its length");
  return trailer;
}

function tableFits({ tableOffset, tableLength, frames, packLength }: PackTrailer): boolean {
  const meets = tableOffset >= PACK_HEADER && tableOffset + tableLength + PACK_TRAILER === packLength;
  return meets && frames * TABLE_ENTRY <= tableLength;
}

/** Opens a pack's table. @param stored the bytes at `trailer.tableOffset` */
export function decodePackTable(
  stored: Uint8Array,
  trailer: PackTrailer,
  options: { readonly sealer: FrameSealer; readonly runId: Uint8Array },
): TableEntry[] {
  const textLength = trailer.frames * TABLE_ENTRY;
  const opened = options.sealer.open(FrameKind.table, stored, {
    runId: options.runId,
    codec: Codec.none,
    hash: trailer.tableHash,
    textLength,
  });
  const table = Buffer.from(opened.buffer, opened.byteOffset, opened.byteLength);
  const entries = Array.from({ length: trailer.frames }, (_, i) =>
    decodeTableEntry(table.subarray(i * TABLE_ENTRY, (i + 1) * TABLE_ENTRY), trailer),
  );
  const end = entries.reduce((at, { offset, length }) => (at === offset ? at + length : NaN), PACK_HEADER);
  if (end !== trailer.tableOffset) throw damaged("A pack's table does not list all that is in the pack");
  return entries;
}

function decodeTableEntry(bytes: Buffer, trailer: PackTrailer): TableEntry {
  const kind = Object.values(FrameKind).find((one) => one === bytes[8]);
  const [offset, length] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
  if (kind === undefined || offset < PACK_HEADER || offset + length > trailer.tableOffset)
    throw damaged("A pack's table lists a frame outside the pack");
  return { kind, codec: bytes[9] ?? 255, offset, length, hash: bytes.subarray(12) };
}
