import { errorText } from "../lib/errors.ts";
import { isLoss, type PointRecord } from "../repository/index.ts";
import { copyPoint, type Standing } from "./copy-point.ts";
import { type MachinePlan, type PassedOver, planCopy, type SharedPoint } from "./plan-copy.ts";
import { CopyMemory, type CopyRequest, type CopyWork, Progress, readerFor } from "./work.ts";

export interface CopiedPoint {
  readonly from: string;
  readonly to: string;
  readonly vm: string;
  readonly time: string;
  readonly readBytes: number;
  readonly uploadedBytes: number;
}

export interface CopyReport {
  readonly copied: readonly CopiedPoint[];
  readonly passedOver: readonly PassedOver[];
  /** points that cannot be read, and are not in the target now */
  readonly failed: readonly { readonly id: string; readonly message: string }[];
}

/**
 * Copies what the target does not have, machine by machine, oldest first, so that each point brings only what differs from the one before it. A point is
 * committed as a backup is: whatever ends a copy leaves whole points and packs that nobody refers to, and the next copy goes on from there. A point
 * that is damaged in the source is reported and left out.
 */
export async function copyPoints(request: CopyRequest): Promise<CopyReport> {
  const { from, to, wanted, signal } = request;
  await to.requireSafeWrites(signal);
  const plan = await planCopy(from, to, wanted, signal);
  const progress = new Progress(plan.machines, request);
  const [reader, memory] = [readerFor(from), new CopyMemory(to)];
  const copied: CopiedPoint[] = [];
  const failed = plan.unreadable.map(({ id, error }) => ({ id, message: errorText(error) }));
  try {
    for (const machine of plan.machines) {
      const { made, damaged } = await copyMachine(machine, { request, reader, memory, progress });
      copied.push(...made);
      failed.push(...damaged);
    }
  } finally {
    await memory.close();
    await reader.close();
  }
  return { copied, passedOver: plan.machines.flatMap(({ passedOver }) => passedOver), failed };
}

async function copyMachine(
  { todo, shared, nextSeq }: MachinePlan,
  work: CopyWork,
): Promise<{ readonly made: CopiedPoint[]; readonly damaged: { id: string; message: string }[] }> {
  const [made, damaged]: [CopiedPoint[], { id: string; message: string }[]] = [[], []];
  let base = todo.length === 0 ? null : await newestLive(shared, work.request);
  let seq = nextSeq;
  for (const source of todo) {
    try {
      const target = await copyOne(source, { base, seq }, work);
      made.push(report(source, target));
      seq = target.seq + 1;
      base = { source, target };
    } catch (thrown) {
      work.request.signal.throwIfAborted();
      if (!isLoss(thrown)) throw thrown;
      damaged.push({ id: source.id, message: `The restore point ${source.id} cannot be read and was not copied: ${errorText(thrown)}` });
    }
    work.progress.finish(source);
  }
  return { made, damaged };
}

/** Against an earlier point where that can be read in both repositories, else all of it. */
async function copyOne(source: PointRecord, { base, seq }: Pick<Standing, "base" | "seq">, work: CopyWork): Promise<PointRecord> {
  try {
    return await copyPoint(source, { base, seq, compare: true }, work);
  } catch (thrown) {
    work.request.signal.throwIfAborted();
    if (!isLoss(thrown)) throw thrown;
    work.request.log.warn(
      { point: source.id, reason: errorText(thrown) },
      "Something that a copy stood on cannot be read: copying all of the point",
    );
    return await copyPoint(source, { base: null, seq, compare: false }, work);
  }
}

/** Nothing new may stand on a point that is forgotten: prune may take it away meanwhile. */
async function newestLive(shared: readonly SharedPoint[], { to, signal }: CopyRequest): Promise<SharedPoint | null> {
  for (const point of shared) if (await to.catalog.isLive(point.target.id, signal)) return point;
  return null;
}

function report(source: PointRecord, target: PointRecord): CopiedPoint {
  const total = (of: (stats: PointRecord["disks"][number]["stats"]) => number): number =>
    target.disks.reduce((sum, { stats }) => sum + of(stats), 0);
  return {
    from: source.id,
    to: target.id,
    vm: source.vm.name,
    time: source.time,
    readBytes: total(({ readBytes }) => readBytes),
    uploadedBytes: total(({ uploadedBytes }) => uploadedBytes),
  };
}
