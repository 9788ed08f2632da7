import { mapConcurrently } from "../../lib/concurrency.ts";
import { Holds } from "../holds.ts";
import { parsePointId } from "../layout.ts";
import type { Repository } from "../repository.ts";
import type { Finding } from "./finding.ts";

const PARALLEL = 16;

/** Points that are held, that somebody marked as forgotten all the same, and that are no longer there: neither prune nor forget does that. */
export async function lostHolds({ store, catalog }: Repository, signal: AbortSignal): Promise<Finding[]> {
  const held = await catalog.mine([...(await new Holds(store).list({ signal }))], (id) => parsePointId(id).vmId, signal);
  const lost = await mapConcurrently(held, PARALLEL, async (id) => {
    // Once more: one that was released meanwhile may go.
    return (await catalog.wasRemoved(id, signal)) && (await catalog.isHeld(id, signal));
  });
  return held
    .filter((_, i) => lost[i] === true)
    .map((id) => ({ what: `point ${id}`, reason: "it is missing, though it is held", points: [id], places: [] }));
}
