import { errorText } from "../../lib/errors.ts";
import { StoreError } from "../../objectstore/index.ts";
import type { CatalogListing } from "../catalog.ts";
import { GRANULE } from "../format/constants.ts";
import { damaged, FormatError } from "../format/errors.ts";
import { FrameSealer } from "../format/frame.ts";
import type { PointDisk, PointRecord } from "../format/point.ts";
import type { Reference } from "../format/reference.ts";
import { ImageMap, type LostGranules } from "../map/image-map.ts";
import { NodeReader } from "../map/node-reader.ts";
import { readCapture } from "../read/captures.ts";
import type { Repository } from "../repository.ts";
import { blame, type Finding } from "./finding.ts";
import { type NewestPoint, noteForBackups } from "./heal.ts";
import { lostHolds } from "./lost-holds.ts";
import { checkPacks, type PackProgress } from "./pack-check.ts";
import type { SumCounts } from "./sum-check.ts";

export interface CheckReport {
  readonly points: number;
  readonly packs: number;
  readonly bytesRead: number;
  readonly findings: readonly Finding[];
  /** whether the next backups know of what is damaged, and store it again; true where nothing is */
  readonly noted: boolean;
  /** where checksums were compared: of how many packs that could be done */
  readonly sums?: SumCounts;
  /** of a sample: how many of the packs were read or compared, and the share of damaged packs that would have shown with a probability of 95 % */
  readonly sample?: { readonly packs: number; readonly detects: number };
}

export interface CheckOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: PackProgress) => void;
}

/** Everything one point refers to, as the walk of its maps found it. */
interface Walked {
  readonly packs: Set<string>;
  readonly findings: Finding[];
}

/** Reads the whole repository: every point, every node, every pack that a point needs, every frame in it. */
export async function checkRepository(repository: Repository, options: CheckOptions): Promise<CheckReport> {
  const { points, unreadable, forgotten } = await listWanted(repository, options.signal);
  const findings: Finding[] = unreadable.map(({ id, error }) => ({ what: `point ${id}`, reason: error.message, points: [id], places: [] }));
  for (const id of await repository.catalog.missing(options.signal))
    findings.push({ what: `point ${id}`, reason: "it is missing", points: [id], places: [] });
  findings.push(...(await lostHolds(repository, options.signal)));
  const pointsOfPack = new Map<string, Set<string>>();
  const needs = new Map<string, Reference>();
  for (const point of points) {
    const walked = await walkPoint(repository, point, { needs, signal: options.signal });
    findings.push(...walked.findings);
    for (const pack of walked.packs) pointsOfPack.set(pack, (pointsOfPack.get(pack) ?? new Set()).add(point.id));
  }
  const walkedInto = findings.length;
  const { damages, bytesRead } = await checkPacks(repository, [...pointsOfPack.keys()].toSorted(), { ...options, needs });
  for (const damage of damages) {
    const candidates = points.filter((point) => pointsOfPack.get(damage.pack)?.has(point.id));
    findings.push(await blame(repository, damage, { candidates, signal: options.signal }));
  }
  // Of points that cannot be read nothing is known, and a backup stands on none of them.
  const said = {
    damages,
    findings: findings.filter(({ what }, i) => i >= walkedInto || !what.startsWith("point ")),
    newest: newestOf(points.filter(({ id }) => !forgotten.has(id))),
  };
  const noted = await noteForBackups(repository, said, options.signal);
  return { points: points.length, packs: pointsOfPack.size, bytesRead, findings, noted };
}

/** Points that nobody has forgotten, and such as are held all the same. */
async function listWanted({ catalog }: Repository, signal: AbortSignal): Promise<CatalogListing> {
  const { points, unreadable, held, forgotten } = await catalog.list({ withForgotten: true, signal });
  const isWanted = ({ id }: { readonly id: string }): boolean => !forgotten.has(id) || held.has(id);
  return { points: points.filter(isWanted), unreadable: unreadable.filter(isWanted), held, forgotten };
}

/** Each machine's newest. @param points oldest first */
function newestOf(points: readonly PointRecord[]): NewestPoint[] {
  return [...new Map(points.map(({ id, vm }) => [vm.name, { id, vm: vm.name }])).values()];
}

async function walkPoint(
  repository: Repository,
  point: PointRecord,
  { needs, signal }: { readonly needs: Map<string, Reference>; readonly signal: AbortSignal },
): Promise<Walked> {
  const walked: Walked = { packs: new Set(), findings: [] };
  const need = (reference: Reference): void => {
    walked.packs.add(reference.pack);
    // The last one: there two packs of a run are the least likely to have the same. A copy, for the hash is part of a node.
    if (reference.offset >= (needs.get(reference.pack)?.offset ?? 0))
      needs.set(reference.pack, { ...reference, hash: Buffer.from(reference.hash) });
  };
  const guard = async (what: string, walk: () => Promise<void>): Promise<void> => {
    try {
      await walk();
    } catch (thrown) {
      signal.throwIfAborted();
      if (!(thrown instanceof FormatError) && !(thrown instanceof StoreError && !thrown.temporary)) throw thrown;
      walked.findings.push({ what: `${what} of ${point.vm.name}`, reason: errorText(thrown), points: [point.id], places: [] });
    }
  };
  for (const disk of point.disks) await guard(`disk ${disk.name}`, async () => await walkDisk(repository, disk, { need, signal }));
  for (const capture of point.captures) {
    capture.pieces.forEach(need);
    await guard(capture.name, async () => void (await readCapture(repository, capture, signal)));
  }
  return walked;
}

async function walkDisk(
  repository: Repository,
  disk: PointDisk,
  { need, signal }: { readonly need: (reference: Reference) => void; readonly signal: AbortSignal },
): Promise<void> {
  const map = new ImageMap(nodeReader(repository, signal), disk);
  const lost: string[] = [];
  // What lies beside a damaged part of the map is still worth a look.
  for await (const reference of map.nodes((part) => lost.push(describeLoss(part)))) need(reference);
  for await (const { reference } of map.granules((part) => lost.push(describeLoss(part)))) need(reference);
  if (lost.length > 0) throw damaged([...new Set(lost)].join("; "));
}

function describeLoss({ first, count, reason }: LostGranules): string {
  return `from ${first * GRANULE} ${count * GRANULE} bytes: ${reason}`;
}

function nodeReader(repository: Repository, signal?: AbortSignal): NodeReader {
  const { store, domain, keys } = repository;
  return new NodeReader({ store, domain, sealer: new FrameSealer(keys), ...(signal === undefined ? {} : { signal }) });
}
