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
import { CopyError } from "./errors.ts";
import { originOf, type SharedPoint } from "./plan-copy.ts";
import type { CopyWork } from "./work.ts";

export interface Standing {
  /** the point's number in the target, by the plan */
  readonly seq: number;
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
  const { to, codec, signal } = work.request;
  const lineage = await to.catalog.lineage(source.vm.name, { depth: 1, signal });
  requirePlanned(source, { standing, lineage }, to.store.url);
  return await work.memory.lend(async (memory) => {
    const session = new BackupSession(to, { vm: source.vm, codec, signal, lineage, memory });
    return await finish(await writePoint(source, { session, standing, lineage }, work), lineage, work);
  });
}

async function writePoint(source: PointRecord, { session, ...place }: Omit<DiskWork, "position">, work: CopyWork): Promise<PointRecord> {
  const { from, signal, onStep } = work.request;
  try {
    await onStep?.("opened");
    let position = 0;
    for (const disk of source.disks) {
      await copyDisk(disk, { ...place, session, position }, work);
      position += disk.size;
    }
    for (const capture of source.captures) await session.addCapture(capture.name, await readCapture(from, capture, signal));
    await onStep?.("disks-written");
    await session.flush();
    await onStep?.("packs-stored");
    const { level, consistency, warnings, tool, time } = source;
    const copied = { time, origin: originOf(source, from) };
    return await session.commit({ level, consistency, warnings, tool, copied });
  } finally {
    await session.close();
  }
}

/** What somebody else has put there since the plan was made may be this very point, or a younger one. */
function requirePlanned({ vm }: PointRecord, { standing, lineage }: Pick<DiskWork, "standing" | "lineage">, url: string): void {
  if (lineage.nextSeq === standing.seq) return;
  throw new CopyError("target-changed", `Somebody else stored restore points of ${vm.name} in ${url} while this copy ran`, {
    hint: "What was copied stays. Copy again, and run one copy or backup of a machine into a repository at a time",
  });
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
