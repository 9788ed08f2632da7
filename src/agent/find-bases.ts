import { isLoss, type PointRecord, readCapture, type Repository } from "../repository/index.ts";
import type { BaseFacts } from "./base-facts.ts";

/** How many points back a disk's checkpoint is looked for: points taken while the machine was off make none. */
const LOOK_BACK = 64;

export interface Bases {
  readonly facts: readonly BaseFacts[];
  /** the points that `facts` name, by id */
  readonly points: ReadonlyMap<string, PointRecord>;
}

/**
 * Finds, for every disk of a point and every other one named, the point whose checkpoint still counts the changes since: itself, one it stands on,
 * or for a disk that was left out of it an earlier one.
 */
export async function findBases(
  repository: Repository,
  { from, disks }: { readonly from: PointRecord | null; readonly disks: readonly string[] },
  signal: AbortSignal,
): Promise<Bases> {
  const points = new Map<string, PointRecord>();
  const facts: BaseFacts[] = [];
  const seen = new Map<string, PointRecord | null>();
  const load = async (id: string): Promise<PointRecord | null> => {
    if (!seen.has(id)) seen.set(id, await unlessLost(livePoint(repository, id, signal)));
    return seen.get(id) ?? null;
  };
  for (const disk of new Set([...(from?.disks ?? []).map(({ name }) => name), ...disks])) {
    const base = await walkBack(from, disk, load);
    const found = base?.disks.find((one) => one.name === disk);
    if (base === null || found === undefined || found.checkpoint === null) continue;
    points.set(base.id, base);
    const { name, size, checkpoint, imageInfo } = found;
    facts.push({ disk: name, point: base.id, size, checkpoint, checkpointXml: await checkpointXml(repository, base, signal), imageInfo });
  }
  return { facts, points };
}

/** From a point to what its disk stands on, or where it stands on nothing to the point before it. */
async function walkBack(
  from: PointRecord | null,
  disk: string,
  load: (id: string) => Promise<PointRecord | null>,
): Promise<PointRecord | null> {
  let point = from;
  for (let i = 0; i < LOOK_BACK && point !== null; i++) {
    const found = point.disks.find((one) => one.name === disk);
    if (hasCheckpoint(point, found)) return point;
    if (found !== undefined && keepsNoBitmaps(found.imageInfo)) return null;
    const next: string | null = found?.base ?? point.parent;
    point = next === null ? null : await load(next);
  }
  return null;
}

/** A copied point has no checkpoint of this repository's runs, whatever it says (FORMAT.md §8). */
function hasCheckpoint(point: PointRecord, disk: PointRecord["disks"][number] | undefined): boolean {
  return disk !== undefined && disk.checkpoint !== null && point.origin === undefined;
}

/** A raw image never had a checkpoint: looking further back would read one point after the other in vain. */
function keepsNoBitmaps(imageInfo: unknown): boolean {
  return typeof imageInfo === "object" && imageInfo !== null && "format" in imageInfo && imageInfo.format === "raw";
}

async function livePoint({ catalog }: Repository, id: string, signal: AbortSignal): Promise<PointRecord | null> {
  return (await catalog.isLive(id, signal)) ? await catalog.point(id, signal) : null;
}

/** libvirt mostly knows the checkpoint still; where it does not either, the disk is read in full. */
async function checkpointXml(repository: Repository, point: PointRecord, signal: AbortSignal): Promise<string | null> {
  const capture = point.captures.find(({ name }) => name === "checkpoint.xml");
  const bytes = capture === undefined ? null : await unlessLost(readCapture(repository, capture, signal));
  return bytes === null ? null : bytes.toString("utf8");
}

/** What is damaged or gone is nothing to stand on, and no reason to fail. */
async function unlessLost<T>(found: Promise<T>): Promise<T | null> {
  return await found.catch((thrown: unknown) => {
    if (isLoss(thrown)) return null;
    throw thrown;
  });
}
