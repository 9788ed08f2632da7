import {
  BackupSession,
  type ImageRoot,
  ImageContent,
  imageOf,
  type Lineage,
  offerHints,
  type PointDisk,
  type PointRecord,
  readCapture,
  type SimilarImage,
  similarImages,
} from "../repository/index.ts";
import { identityOf, type SharedPoint } from "./plan-copy.ts";
import type { CopyWork } from "./work.ts";

interface Standing {
  /** an earlier point that both repositories have; null: none */
  readonly base: SharedPoint | null;
  /** whether other images of the target are compared with */
  readonly compare: boolean;
}

/**
 * Copies one point behind the machine's newest in the target. Its checkpoints stay behind: those of the target's own runs alone say what a machine
 * wrote since a point of the target (FORMAT.md §8).
 */
export async function copyPoint(source: PointRecord, standing: Standing, work: CopyWork): Promise<PointRecord> {
  const { from, to, codec, signal, onStep } = work.request;
  const lineage = await to.catalog.lineage(source.vm.name, { depth: 1, signal });
  const session = new BackupSession(to, { vm: source.vm, codec, signal, lineage });
  try {
    await onStep?.("opened");
    let position = 0;
    for (const disk of source.disks) {
      await copyDisk(disk, { session, standing, lineage, position }, work);
      position += disk.size;
    }
    for (const capture of source.captures) await session.addCapture(capture.name, await readCapture(from, capture, signal));
    await onStep?.("disks-written");
    await session.flush();
    await onStep?.("packs-stored");
    const [repository = "", point = ""] = identityOf(source, from).split("/");
    const { level, consistency, warnings, tool, time } = source;
    const copied = { time, origin: { repository, point } };
    return await finish(await session.commit({ level, consistency, warnings, tool, copied }), lineage, work);
  } finally {
    await session.close();
  }
}

interface DiskWork {
  readonly session: BackupSession;
  readonly standing: Standing;
  readonly lineage: Lineage;
  /** bytes of the point's disks before this one */
  readonly position: number;
}

async function copyDisk(disk: PointDisk, { session, standing, lineage, position }: DiskWork, work: CopyWork): Promise<void> {
  const { request, reader, progress } = work;
  const { from: repository, to, signal } = request;
  const { name, level, reason, imageInfo } = disk;
  const { base, before } = baseOf(name, standing);
  const content = new ImageContent({ repository, reader, name, image: disk, before, signal });
  const latest = imageOf(lineage.points[0] ?? null, name);
  const similar = async (): Promise<readonly SimilarImage[]> => (latest === null ? await similarImages(to, content, signal) : [latest]);
  const { stats } = await session.writeDisk(content, {
    level,
    reason,
    base,
    checkpoint: null,
    imageInfo,
    similar: standing.compare ? await similar() : [],
    onProgress: (at) => progress.update(position + at.position, at.readBytes),
  });
  progress.read(stats.readBytes);
}

/** What a disk is taken against: the same image in both repositories, or nothing. */
function baseOf(disk: string, { base }: Standing): { readonly base: PointRecord | null; readonly before: ImageRoot | null } {
  if (base === null) return { base: null, before: null };
  const [before, there] = [imageOf(base.source, disk), imageOf(base.target, disk)];
  return before === null || there === null ? { base: null, before: null } : { base: base.target, before };
}

/** The point is there: from here on nothing may fail the copy, only warn. */
async function finish(point: PointRecord, lineage: Lineage, { request }: CopyWork): Promise<PointRecord> {
  const { to, signal, log, onStep } = request;
  await onStep?.("committed");
  await to.catalog
    .writeHead(lineage.vmId, point.seq, signal)
    .catch((err: unknown) => log.warn({ err }, "Could not update the head hint; the next copy will look for the point"));
  if (lineage.points.length === 0)
    await offerHints(to, point, signal).catch((err: unknown) => log.warn({ err }, "Could not update the dedup hints"));
  await onStep?.("head-written");
  return point;
}
