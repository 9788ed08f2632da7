import { mapConcurrently } from "../../lib/concurrency.ts";
import { errorText } from "../../lib/errors.ts";
import type { Leftover, StoreTrials, Trial } from "./check.ts";

const PARALLEL = 16;

/** For a store of which the port shows everything. */
export const plainTrials: StoreTrials = { checks: [], cleanUp: removeAll, close: async () => undefined };

/** Removes what is listed below the trial's prefix. */
export async function removeAll({ store, prefix, signal }: Trial): Promise<readonly Leftover[]> {
  const found: string[] = [];
  for await (const { key } of store.list(prefix, { signal })) found.push(key);
  const failures = await mapConcurrently(found, PARALLEL, async (key) => {
    return await store.delete(key, { signal }).then(
      () => null,
      (thrown: unknown) => errorText(thrown),
    );
  });
  const reasons = failures.filter((reason) => reason !== null);
  const [reason] = reasons;
  return reason === undefined ? [] : [{ prefix, objects: reasons.length, reason }];
}
