import { errorText } from "../../lib/errors.ts";
import { RepositoryError } from "../errors.ts";
import type { PointRecord } from "../format/point.ts";
import { isLoss } from "../map/image-map.ts";
import type { Repository } from "../repository.ts";

/** One point by id, as what it is of that is wanted. Rejects `point-unknown`, and `point-damaged` where its own object cannot be read. */
export async function readPoint(repository: Repository, id: string, signal: AbortSignal): Promise<PointRecord> {
  try {
    return await repository.catalog.point(id, signal);
  } catch (thrown) {
    throw isLoss(thrown) ? pointDamaged(id, thrown) : thrown;
  }
}

export function pointDamaged(id: string, cause: unknown): RepositoryError {
  return new RepositoryError("point-damaged", `The restore point ${id} is damaged: ${errorText(cause)}`, {
    cause,
    hint: "`thinstream check` lists all damage and the points it touches",
  });
}
