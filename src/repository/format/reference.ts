import { Codec, HASH_LENGTH, MAX_PACK_LENGTH, PACK_ID_LENGTH } from "./constants.ts";
import { damaged, FormatError } from "./errors.ts";
import { asCount, asHex, asObject, asString } from "./json.ts";

/** Where a frame lies and how it must read: FORMAT.md §2. */
export interface Reference {
  /** 32 hex digits */
  readonly pack: string;
  /** bytes from the start of the pack */
  readonly offset: number;
  /** bytes stored, seal included */
  readonly length: number;
  readonly codec: number;
  /** 32 bytes */
  readonly hash: Buffer;
}

export function sameReference(a: Reference | null, b: Reference | null): boolean {
  if (a === null || b === null) return a === b;
  return a.offset === b.offset && a.pack === b.pack && a.hash.equals(b.hash);
}

/** What went wrong with a frame, and where it lies. */
export function damagedAt({ pack, offset }: Reference, cause: unknown): unknown {
  return cause instanceof FormatError ? damaged(`${cause.message} (pack ${pack}, offset ${offset})`, cause) : cause;
}

export function checkReference(reference: Reference): Reference {
  if (reference.offset + reference.length > MAX_PACK_LENGTH || reference.length === 0) throw damaged("A reference points outside any pack");
  if (reference.codec > Codec.zstd) throw damaged(`A reference names codec ${reference.codec}, which is none of this format's`);
  return reference;
}

export function referenceToJson(reference: Reference): object {
  return { ...reference, hash: reference.hash.toString("hex") };
}

export function referenceFromJson(value: unknown, what: string): Reference {
  const object = asObject(value, what);
  asHex(object["pack"], `${what}: pack`, PACK_ID_LENGTH);
  return checkReference({
    pack: asString(object["pack"], `${what}: pack`),
    offset: asCount(object["offset"], `${what}: offset`, MAX_PACK_LENGTH),
    length: asCount(object["length"], `${what}: length`, MAX_PACK_LENGTH),
    codec: asCount(object["codec"], `${what}: codec`, 255),
    hash: asHex(object["hash"], `${what}: hash`, HASH_LENGTH),
  });
}
