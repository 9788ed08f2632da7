import { StoreError } from "../objectstore/index.ts";
import type { DiskContent } from "./disk-content.ts";
import { RepositoryError } from "./errors.ts";
import { DocumentKind, FrameKind, GRANULE, HASH_LENGTH } from "./format/constants.ts";
import { openDocument, sealDocument } from "./format/document.ts";
import { FormatError } from "./format/errors.ts";
import { FrameSealer } from "./format/frame.ts";
import { asArray, asCount, asHex, asObject, asString, parseObject } from "./format/json.ts";
import type { PointRecord } from "./format/point.ts";
import { hintsAt } from "./layout.ts";
import { ImageMap, type ImageRoot } from "./map/image-map.ts";
import { NodeReader } from "./map/node-reader.ts";
import type { Repository } from "./repository.ts";

/** Images remembered in the domain, granules remembered of each. */
const CANDIDATES = 16;
const SAMPLES = 32;
/** An image is worth comparing with when so many of its samples stand on the new disk too. */
const ENOUGH = 1 / 8;

interface Sample {
  readonly granule: number;
  readonly hash: Buffer;
}

interface Candidate {
  readonly point: string;
  readonly disk: string;
  readonly samples: readonly Sample[];
}

/**
 * Images of other machines that a new disk looks like, best first, at most two: what was cloned from one golden image is found again at the same place.
 * No index is kept for it: a few granules of some known images are read on the new disk and compared.
 */
export async function similarImages(repository: Repository, disk: DiskContent, signal: AbortSignal): Promise<ImageRoot[]> {
  const sealer = new FrameSealer(repository.keys);
  const granule = Buffer.alloc(GRANULE);
  const scored: { readonly candidate: Candidate; readonly score: number }[] = [];
  for (const candidate of await readHints(repository, signal)) {
    let hits = 0;
    for (const sample of candidate.samples) {
      const offset = sample.granule * GRANULE;
      if (offset + GRANULE > disk.size) continue;
      await disk.read([{ offset, into: granule }], signal);
      if (sealer.hash(FrameKind.granule, granule).equals(sample.hash)) hits++;
    }
    if (hits > 0 && hits >= candidate.samples.length * ENOUGH) scored.push({ candidate, score: hits / candidate.samples.length });
  }
  const best = scored.toSorted((a, b) => b.score - a.score).slice(0, 2);
  const images = await Promise.all(best.map(async ({ candidate }) => await imageOfCandidate(repository, candidate, signal)));
  return images.filter((image) => image !== null);
}

/** Remembers a machine's first point for others to compare with. Of two who do it at once one may be lost: that costs dedup, never data. */
export async function offerHints(repository: Repository, point: PointRecord, signal: AbortSignal): Promise<void> {
  const { store, domain, keys } = repository;
  const nodes = new NodeReader({ store, domain, signal, sealer: new FrameSealer(keys) });
  const offered: Candidate[] = [];
  for (const disk of point.disks) {
    const samples = await takeSamples(new ImageMap(nodes, disk), disk.size);
    if (samples.length > 0) offered.push({ point: point.id, disk: disk.name, samples });
  }
  const all = [...offered, ...(await readHints(repository, signal))].slice(0, CANDIDATES);
  const json = all.map(({ samples, ...rest }) => ({
    ...rest,
    samples: samples.map(({ granule, hash }) => [granule, hash.toString("hex")]),
  }));
  await store.put(hintsAt(domain), sealDocument(Buffer.from(JSON.stringify({ candidates: json })), seal(repository)), { signal });
}

async function takeSamples(map: ImageMap, size: number): Promise<Sample[]> {
  const granules = Math.ceil(size / GRANULE);
  const samples: Sample[] = [];
  let next = 0;
  for (let i = 0; i < SAMPLES; i++) {
    const found = await map.firstFrom(Math.max(next, Math.floor((granules * i) / SAMPLES)));
    if (found === null) break;
    samples.push({ granule: found.granule, hash: found.reference.hash });
    next = found.granule + 1;
  }
  return samples;
}

async function readHints(repository: Repository, signal: AbortSignal): Promise<Candidate[]> {
  const at = hintsAt(repository.domain);
  try {
    const text = openDocument(await repository.store.get(at, { signal }), seal(repository));
    const candidates = asArray(parseObject(text, at)["candidates"], at);
    return candidates.slice(0, CANDIDATES).map((value) => decodeCandidate(value, at));
  } catch (thrown) {
    // A hint that is lost or damaged costs dedup; it must not cost a backup.
    if (thrown instanceof FormatError || (thrown instanceof StoreError && thrown.code === "not-found")) return [];
    throw thrown;
  }
}

function decodeCandidate(value: unknown, at: string): Candidate {
  const json = asObject(value, at);
  const samples = asArray(json["samples"], at)
    .slice(0, SAMPLES)
    .map((sample) => {
      const [granule, hash] = asArray(sample, at);
      return { granule: asCount(granule, at), hash: asHex(hash, at, HASH_LENGTH) };
    });
  return { point: asString(json["point"], at), disk: asString(json["disk"], at), samples };
}

async function imageOfCandidate(repository: Repository, candidate: Candidate, signal: AbortSignal): Promise<ImageRoot | null> {
  try {
    if (!(await repository.catalog.isLive(candidate.point, signal))) return null;
    const point = await repository.catalog.point(candidate.point, signal);
    return point.disks.find(({ name }) => name === candidate.disk) ?? null;
  } catch (thrown) {
    // A point that is no more or damaged is nothing to compare with, and no reason to fail.
    if (thrown instanceof FormatError || thrown instanceof RepositoryError) return null;
    throw thrown;
  }
}

function seal({ keys, domain }: Repository): { kind: DocumentKind; key: Uint8Array; at: string; encrypted: boolean } {
  return { kind: DocumentKind.hints, key: keys.document, at: hintsAt(domain), encrypted: keys.encrypted };
}
