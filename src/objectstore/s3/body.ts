import { Readable } from "node:stream";
import { StoreError } from "../errors.ts";
import { outOfRange, tooLarge } from "../keys.ts";

/** The parts of a GetObject answer that are used here. */
export interface Answer {
  readonly Body?: unknown;
  readonly ContentLength?: number | undefined;
  readonly ContentRange?: string | undefined;
}

/** The whole object, at most `maxBytes`; the connection is given up where it is longer. */
export async function readWhole(key: string, answer: Answer, maxBytes: number): Promise<Uint8Array> {
  const body = stream(key, answer);
  const size = answer.ContentLength;
  if (size === undefined) throw giveUp(body, new StoreError("failed", `the store does not say how long ${key} is`));
  if (size > maxBytes) throw giveUp(body, tooLarge(key, size, maxBytes));
  const bytes = new Uint8Array(size);
  await fill(key, body, bytes);
  return bytes;
}

/** Fills `into` from the answer to a request for exactly that range. */
export async function readRange(key: string, answer: Answer, offset: number, into: Uint8Array): Promise<void> {
  const body = stream(key, answer);
  const given = /^bytes (\d+)-(\d+)\//.exec(answer.ContentRange ?? "");
  const isWhole = given === null && offset === 0 && answer.ContentLength === into.length;
  if (!isWhole && (given === null || Number(given[1]) !== offset)) {
    throw giveUp(body, new StoreError("failed", `the store does not honour range requests (${key} from ${offset})`));
  }
  if (answer.ContentLength !== undefined && answer.ContentLength < into.length) throw giveUp(body, outOfRange(key, offset, into.length));
  await fill(key, body, into);
}

async function fill(key: string, body: Readable, into: Uint8Array): Promise<void> {
  let done = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    if (done + chunk.length > into.length) throw new StoreError("failed", `the store sent more of ${key} than was asked for`);
    into.set(chunk, done);
    done += chunk.length;
  }
  if (done < into.length) throw new StoreError("unavailable", `the store stopped sending ${key} after ${done} of ${into.length} bytes`);
}

function stream(key: string, answer: Answer): Readable {
  if (answer.Body instanceof Readable) return answer.Body;
  throw new StoreError("failed", `the store sent no body for ${key}`);
}

function giveUp(body: Readable, error: StoreError): StoreError {
  body.once("error", () => undefined);
  body.destroy();
  return error;
}
