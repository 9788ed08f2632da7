import type { CaptureMessage, InspectWork } from "../../api/index.ts";
import { isLoss, pointDamaged, type PointRecord, readCapturePiece, readPoint, type Repository } from "../../repository/index.ts";
import { Refusal } from "./channel-server.ts";
import type { OrderedWork, OrderJob } from "./job.ts";
import { summaryOf } from "./point-summary.ts";
import { Serving } from "./serving.ts";

/** Serves what was captured with a point. */
export function inspectWork(work: InspectWork, job: OrderJob): OrderedWork {
  const serving = new Serving();
  let opened: { readonly repository: Repository; readonly point: PointRecord } | null = null;
  const served = (): NonNullable<typeof opened> => {
    if (opened === null) throw new Refusal(409, "The point is being read: wait for the phase Serving");
    return opened;
  };
  return {
    routes: {
      ...serving.routes,
      "GET /captures": async () => await Promise.resolve({ point: summaryOf(served().point) }),
      "GET /captures/": async ({ rest, query }) => {
        const { repository, point } = served();
        try {
          return await captureOf(repository, point, { name: rest, piece: Number(query.get("piece") ?? "0"), signal: job.signal });
        } catch (thrown) {
          if (!isLoss(thrown)) throw thrown;
          const damage = pointDamaged(point.id, thrown);
          serving.fail(damage);
          throw damage;
        }
      },
    },
    carryOut: async (channel) =>
      await job.withDomains(async (domains) => {
        const repository = await domains.holding(work.point, job.signal);
        const point = await readPoint(repository, work.point, job.signal);
        opened = { repository, point };
        await serving.untilDone(job, channel);
        const message = `What was captured with the restore point ${point.id} was served`;
        return { version: 1, outcome: "Succeeded", message, warnings: [] };
      }),
  };
}

interface Wanted {
  readonly name: string;
  readonly piece: number;
  readonly signal: AbortSignal;
}

async function captureOf(repository: Repository, point: PointRecord, { name, piece, signal }: Wanted): Promise<CaptureMessage> {
  const capture = point.captures.find((one) => one.name === name);
  const last = (capture?.pieces.length ?? 0) - 1;
  // A file without content has no piece, and is there all the same.
  if (capture === undefined || !Number.isSafeInteger(piece) || piece < 0 || piece > Math.max(0, last))
    throw new Refusal(404, "Nothing of that name was captured with the point");
  const bytes = await readCapturePiece(repository, { capture, piece }, signal);
  return { base64: Buffer.from(bytes ?? []).toString("base64"), next: piece < last ? piece + 1 : null };
}
