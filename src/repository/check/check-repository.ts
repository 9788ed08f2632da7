import { errorText } from "../../lib/errors.ts";
import { StoreError } from "../../objectstore/index.ts";
import { GRANULE } from "../format/constants.ts";
import { damaged, FormatError } from "../format/errors.ts";
import { FrameSealer } from "../format/frame.ts";
import type { PointDisk, PointRecord } from "../format/point.ts";
import { ImageMap, type LostGranules } from "../map/image-map.ts";
import { NodeReader } from "../map/node-reader.ts";
import { readCapture } from "../read/captures.ts";
import type { Repository } from "../repository.ts";
import { PackChecker, type PackDamage } from "./pack-check.ts";

/** One thing a check found wrong, and whose data it touches. */
export interface Finding {
  /** object, disk or capture the sentence is about */
  readonly what: string;
  readonly reason: string;
  /** points that do not restore whole because of it */
  readonly points: readonly string[];
}

export interface CheckReport {
  readonly points: number;
  readonly packs: number;
  readonly bytesRead: number;
  readonly findings: readonly Finding[];
}

export interface CheckOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: { readonly packs: number; readonly ofPacks: number; readonly bytesRead: number }) => void;
}

/** Everything one point refers to, as the walk of its maps found it. */
interface Walked {
  readonly packs: Set<string>;
  readonly findings: Finding[];
}

/** Reads the whole repository: every point, every node, every pack that a point needs, every frame in it. */
export async function checkRepository(repository: Repository, options: CheckOptions): Promise<CheckReport> {
  const { points, unreadable } = await repository.catalog.list(options);
  const findings: Finding[] = unreadable.map(({ id, error }) => ({ what: `point ${id}`, reason: error.message, points: [id] }));
  for (const id of await repository.catalog.missing(options.signal))
    findings.push({ what: `point ${id}`, reason: "it is missing", points: [id] });
  const pointsOfPack = new Map<string, Set<string>>();
  for (const point of points) {
    const walked = await walkPoint(repository, point, options.signal);
    findings.push(...walked.findings);
    for (const pack of walked.packs) pointsOfPack.set(pack, (pointsOfPack.get(pack) ?? new Set()).add(point.id));
  }
  const { damages, bytesRead } = await checkPacks(repository, [...pointsOfPack.keys()].toSorted(), options);
  for (const damage of damages) {
    const candidates = points.filter((point) => pointsOfPack.get(damage.pack)?.has(point.id));
    findings.push(...(await blame(repository, damage, candidates)));
  }
  return { points: points.length, packs: pointsOfPack.size, bytesRead, findings };
}

async function walkPoint(repository: Repository, point: PointRecord, signal: AbortSignal): Promise<Walked> {
  const walked: Walked = { packs: new Set(), findings: [] };
  const guard = async (what: string, walk: () => Promise<void>): Promise<void> => {
    try {
      await walk();
    } catch (thrown) {
      signal.throwIfAborted();
      if (!(thrown instanceof FormatError) && !(thrown instanceof StoreError && !thrown.temporary)) throw thrown;
      walked.findings.push({ what: `${what} of ${point.vm.name}`, reason: errorText(thrown), points: [point.id] });
    }
  };
  for (const disk of point.disks)
    await guard(`disk ${disk.name}`, async () => await walkDisk(repository, disk, { packs: walked.packs, signal }));
  for (const capture of point.captures) {
    for (const piece of capture.pieces) walked.packs.add(piece.pack);
    await guard(capture.name, async () => void (await readCapture(repository, capture, signal)));
  }
  return walked;
}

async function walkDisk(
  repository: Repository,
  disk: PointDisk,
  { packs, signal }: { readonly packs: Set<string>; readonly signal: AbortSignal },
): Promise<void> {
  const map = new ImageMap(nodeReader(repository, signal), disk);
  const lost: string[] = [];
  // What lies beside a damaged part of the map is still worth a look.
  for await (const { pack } of map.nodes((part) => lost.push(describeLoss(part)))) packs.add(pack);
  for await (const { reference } of map.granules((part) => lost.push(describeLoss(part)))) packs.add(reference.pack);
  if (lost.length > 0) throw damaged([...new Set(lost)].join("; "));
}

function describeLoss({ first, count, reason }: LostGranules): string {
  return `from ${first * GRANULE} ${count * GRANULE} bytes: ${reason}`;
}

async function checkPacks(
  repository: Repository,
  packs: readonly string[],
  options: CheckOptions,
): Promise<{ damages: PackDamage[]; bytesRead: number }> {
  const checker = new PackChecker(repository);
  const damages: PackDamage[] = [];
  let bytesRead = 0;
  try {
    for (const [i, pack] of packs.entries()) {
      options.signal.throwIfAborted();
      const { damage, bytes } = await checker.check(pack, options.signal);
      if (damage !== null) damages.push(damage);
      bytesRead += bytes;
      options.onProgress?.({ packs: i + 1, ofPacks: packs.length, bytesRead });
    }
  } finally {
    await checker.close();
  }
  return { damages, bytesRead };
}

/** Which of the points that use a damaged pack use what is damaged in it. */
async function blame(repository: Repository, damage: PackDamage, candidates: readonly PointRecord[]): Promise<Finding[]> {
  const touched: string[] = [];
  const places: string[] = [];
  for (const point of candidates) {
    const where =
      damage.offsets === null
        ? ["all of its part"]
        : await touchedPlaces(repository, point, { pack: damage.pack, offsets: damage.offsets });
    if (where.length === 0) continue;
    touched.push(point.id);
    places.push(...where.filter((place) => !places.includes(place)));
  }
  const shown =
    damage.offsets === null || places.length === 0 ? "" : ` (${places.slice(0, 4).join("; ")}${places.length > 4 ? "; …" : ""})`;
  return [{ what: damage.key, reason: `${damage.reason}${shown}`, points: touched }];
}

async function touchedPlaces(
  repository: Repository,
  point: PointRecord,
  damage: { readonly pack: string; readonly offsets: ReadonlySet<number> },
): Promise<string[]> {
  const places: string[] = [];
  const hit = (reference: { readonly pack: string; readonly offset: number }): boolean =>
    reference.pack === damage.pack && damage.offsets.has(reference.offset);
  for (const disk of point.disks) {
    const map = new ImageMap(nodeReader(repository), disk);
    for await (const { granule, reference } of map.granules(({ first }) => places.push(`${disk.name}: its map from ${first * GRANULE}`))) {
      if (hit(reference)) places.push(`${disk.name} at ${granule * GRANULE}`);
    }
  }
  for (const capture of point.captures) if (capture.pieces.some(hit)) places.push(capture.name);
  return places;
}

function nodeReader(repository: Repository, signal?: AbortSignal): NodeReader {
  const { store, domain, keys } = repository;
  return new NodeReader({ store, domain, sealer: new FrameSealer(keys), ...(signal === undefined ? {} : { signal }) });
}
