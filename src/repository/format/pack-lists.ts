import { RUN_ID_LENGTH } from "./constants.ts";
import { damaged } from "./errors.ts";
import { MAX_ORDINAL, PackNumbers } from "./pack-numbers.ts";

const VERSION = 1;

/** Numbers of packs in columns. A pack is listed where its number in the first column is not zero. */
export type Columns = readonly PackNumbers[];

/** The text of a list of packs, FORMAT.md §11: packs by run, and a whole number of each column for each. */
export function encodePackLists(columns: Columns): Buffer {
  const [first = new PackNumbers()] = columns;
  const out = new Writer();
  out.byte(VERSION);
  out.byte(columns.length);
  const runs = first.runs().filter(([, values]) => values.some((value) => value !== 0));
  out.number(runs.length);
  for (const [run, values] of runs) {
    out.bytes(Buffer.from(run, "hex"));
    out.number(values.reduce((count, value) => count + (value === 0 ? 0 : 1), 0));
    const rows = columns.map((column) => column.ofRun(run));
    let next = 0;
    for (let ordinal = 0; ordinal < values.length; ordinal++) {
      if (values[ordinal] === 0) continue;
      out.number(ordinal - next);
      for (const row of rows) out.number(row[ordinal] ?? 0);
      next = ordinal + 1;
    }
  }
  return out.done();
}

/** Reads the text of a list of packs; rejects anything that `encodePackLists` could not have written. @param what names it in the error */
export function decodePackLists(text: Uint8Array, count: number, what: string): PackNumbers[] {
  const columns = Array.from({ length: count }, () => new PackNumbers());
  const input = new Reader(text, what);
  if (input.byte() !== VERSION) throw damaged(`${what} is of a version that this program does not know`);
  if (input.byte() !== count) throw input.broken();
  let before = "";
  for (let runs = input.number(); runs > 0; runs--) {
    const run = input.bytes(RUN_ID_LENGTH).toString("hex");
    if (run <= before) throw input.broken();
    before = run;
    readRun(input, run, columns);
  }
  input.end();
  return columns;
}

function readRun(input: Reader, run: string, columns: Columns): void {
  let next = 0;
  const count = input.number();
  if (count === 0) throw input.broken();
  for (let left = count; left > 0; left--) {
    const ordinal = next + input.number();
    if (ordinal >= MAX_ORDINAL) throw input.broken();
    for (const [i, column] of columns.entries()) {
      const value = input.number();
      if (i === 0 && value === 0) throw input.broken();
      column.setAt(run, ordinal, value);
    }
    next = ordinal + 1;
  }
}

/** Whole numbers as groups of seven bits, lowest first, the top bit set on all but the last. */
class Writer {
  #room = Buffer.allocUnsafe(1024);
  #length = 0;

  byte(value: number): void {
    this.#grow(1);
    this.#room[this.#length++] = value;
  }

  bytes(value: Uint8Array): void {
    this.#grow(value.length);
    this.#room.set(value, this.#length);
    this.#length += value.length;
  }

  number(value: number): void {
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.byte(128 + (rest % 128));
    this.byte(rest);
  }

  done(): Buffer {
    return this.#room.subarray(0, this.#length);
  }

  #grow(by: number): void {
    if (this.#length + by > this.#room.length) this.#room = Buffer.concat([this.#room, Buffer.alloc(this.#room.length + by)]);
  }
}

class Reader {
  readonly #text: Uint8Array;
  readonly #what: string;
  #at = 0;

  constructor(text: Uint8Array, what: string) {
    this.#text = text;
    this.#what = what;
  }

  byte(): number {
    const value = this.#text[this.#at++];
    if (value === undefined) throw this.broken();
    return value;
  }

  bytes(length: number): Buffer {
    if (this.#at + length > this.#text.length) throw this.broken();
    const found = Buffer.from(this.#text.subarray(this.#at, this.#at + length));
    this.#at += length;
    return found;
  }

  number(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.byte();
      value += (byte % 128) * factor;
      if (!Number.isSafeInteger(value)) throw this.broken();
      if (byte < 128) return this.#shortest(byte, factor, value);
    }
  }

  end(): void {
    if (this.#at !== this.#text.length) throw this.broken();
  }

  broken(): Error {
    return damaged(`${this.#what} is not as a list of packs is`);
  }

  #shortest(last: number, factor: number, value: number): number {
    if (last === 0 && factor > 1) throw this.broken();
    return value;
  }
}
