import { PackNumbers } from "../format/pack-numbers.ts";
import { decodePackLists, encodePackLists } from "../format/pack-lists.ts";

/** What of some packs is needed. */
export class PackUsage {
  /** stored bytes of all that is referred to; what is referred to twice counts twice */
  readonly bytes: PackNumbers;
  /** bytes that the pack has at least */
  readonly ends: PackNumbers;

  constructor(bytes: PackNumbers = new PackNumbers(), ends: PackNumbers = new PackNumbers()) {
    this.bytes = bytes;
    this.ends = ends;
  }

  static decode(text: Uint8Array, what: string): PackUsage {
    const [bytes, ends] = decodePackLists(text, 2, what);
    return new PackUsage(bytes, ends);
  }

  encode(): Buffer {
    return encodePackLists([this.bytes, this.ends]);
  }

  /** Takes the greater of both, of every pack. */
  raise(other: PackUsage): void {
    this.bytes.raise(other.bytes);
    this.ends.raise(other.ends);
  }
}
