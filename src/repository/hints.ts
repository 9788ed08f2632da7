import type { DiskContent } from "./disk-content.ts";
import { RepositoryError } from "./errors.ts";
import { DocumentKind, FrameKind, GRANULE } from "./format/constants.ts";
import { sealDocument } from "./format/document.ts";
import { FormatError } from "./format/errors.ts";
import { FrameSealer } from "./format/frame.ts";
import { decodeHints, encodeHints, type HintCandidate, type HintSample, MAX_SAMPLES } from "./format/hints.ts";
import type { PointRecord } from "./format/point.ts";
import { type HintPlace, readHint, sealOf } from "./hint-document.ts";
import { hintsAt, parsePointId } from "./layout.ts";
import { ImageMap, type ImageRoot } from "./map/image-map.ts";
import { NodeReader } from "./map/node-reader.ts";
import type { Repository } from "./repository.ts";

/** No hints of ours are longer; what is, is not worth its memory. */
const MAX_BYTES = 1024 * 1024;
/** An image is worth comparing with when so many of its samples stand on the new disk too. */
const ENOUGH = 1 / 8;

/** An image worth comparing a disk with. */
export interface SimilarImage extends ImageRoot {
  /** machine whose it is; default: that of the disk */
  readonly vmId?: string;
}

/**
 * Images of other machines that a new disk looks like, best first, at most two: what was cloned from one golden image is found again at the same place.
 * No index is kept for it: a few granules of some known images are read on the new disk and compared.
 */
export async function similarImages(repository: Repository, disk: DiskContent, signal: AbortSignal): Promise<SimilarImage[]> {
  const sealer = new FrameSealer(repository.keys);
  const granule = Buffer.alloc(GRANULE);
  const scored: { readonly candidate: HintCandidate; readonly score: number }[] = [];
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
  const offered: HintCandidate[] = [];
  for (const disk of point.disks) {
    const samples = await takeSamples(new ImageMap(nodes, disk), disk.size);
    if (samples.length > 0) offered.push({ point: point.id, disk: disk.name, samples });
  }
  const hints = encodeHints([...offered, ...(await readHints(repository, signal))]);
  const place = placeOf(repository);
  await store.put(place.at, sealDocument(hints, sealOf(repository, place)), { signal });
}

async function takeSamples(map: ImageMap, size: number): Promise<HintSample[]> {
  const granules = Math.ceil(size / GRANULE);
  const samples: HintSample[] = [];
  let next = 0;
  for (let i = 0; i < MAX_SAMPLES; i++) {
    const found = await map.firstFrom(Math.max(next, Math.floor((granules * i) / MAX_SAMPLES)));
    if (found === null) break;
    samples.push({ granule: found.granule, hash: found.reference.hash });
    next = found.granule + 1;
  }
  return samples;
}

async function readHints(repository: Repository, signal: AbortSignal): Promise<HintCandidate[]> {
  return (await readHint(repository, placeOf(repository), { decode: decodeHints, signal })) ?? [];
}

async function imageOfCandidate(repository: Repository, candidate: HintCandidate, signal: AbortSignal): Promise<SimilarImage | null> {
  try {
    if (!(await repository.catalog.isLive(candidate.point, signal))) return null;
    const point = await repository.catalog.point(candidate.point, signal);
    const found = point.disks.find(({ name }) => name === candidate.disk);
    return found === undefined ? null : { size: found.size, root: found.root, vmId: parsePointId(candidate.point).vmId };
  } catch (thrown) {
    // A point that is no more or damaged is nothing to compare with, and no reason to fail.
    if (thrown instanceof FormatError || thrown instanceof RepositoryError) return null;
    throw thrown;
  }
}

function placeOf({ domain }: Repository): HintPlace {
  return { at: hintsAt(domain), kind: DocumentKind.hints, maxBytes: MAX_BYTES };
}
