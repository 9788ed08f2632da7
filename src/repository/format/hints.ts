import { HASH_LENGTH } from "./constants.ts";
import { asArray, asCount, asHex, asObject, asString, parseObject } from "./json.ts";

/** Images remembered in the domain, granules remembered of each. */
export const MAX_CANDIDATES = 16;
export const MAX_SAMPLES = 32;

/** An image that a new disk may be like, FORMAT.md §10. */
export interface HintCandidate {
  /** id of a point, as it was written down: it may be forgotten or never have been */
  readonly point: string;
  readonly disk: string;
  readonly samples: readonly HintSample[];
}

export interface HintSample {
  /** index on the disk */
  readonly granule: number;
  /** 32 bytes */
  readonly hash: Buffer;
}

/** The text of the hints; the first `MAX_CANDIDATES` are kept. */
export function encodeHints(candidates: readonly HintCandidate[]): Buffer {
  const json = candidates.slice(0, MAX_CANDIDATES).map(({ point, disk, samples }) => ({
    point,
    disk,
    samples: samples.slice(0, MAX_SAMPLES).map(({ granule, hash }) => [granule, hash.toString("hex")]),
  }));
  return Buffer.from(JSON.stringify({ candidates: json }));
}

/** Reads the text of the hints; what is beyond the bounds is passed over, so that no hint costs more reads than ours do. */
export function decodeHints(bytes: Uint8Array): HintCandidate[] {
  const candidates = asArray(parseObject(bytes, "The hints")["candidates"], "The hints' candidates");
  return candidates.slice(0, MAX_CANDIDATES).map(decodeCandidate);
}

function decodeCandidate(value: unknown): HintCandidate {
  const json = asObject(value, "A hint");
  const samples = asArray(json["samples"], "A hint's samples").slice(0, MAX_SAMPLES).map(decodeSample);
  return { point: asString(json["point"], "A hint's point"), disk: asString(json["disk"], "A hint's disk"), samples };
}

function decodeSample(value: unknown): HintSample {
  const [granule, hash] = asArray(value, "A hint's sample");
  return { granule: asCount(granule, "A sample's granule"), hash: asHex(hash, "A sample's hash", HASH_LENGTH) };
}
