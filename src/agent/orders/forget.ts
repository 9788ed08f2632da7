import type { ForgetWork } from "../../api/index.ts";
import { RepositoryError, type RepositoryErrorCode } from "../../repository/index.ts";
import type { OrderedWork, OrderJob } from "./job.ts";

const SAID: ReadonlySet<RepositoryErrorCode> = new Set(["point-unknown", "point-held", "domain-destroyed"]);

/** Takes points off the list. One that is not there needs no forgetting, one that is held stays: said, and no failure, so that trying again always ends. */
export function forgetWork(work: ForgetWork, { withDomains, signal }: OrderJob): OrderedWork {
  return {
    routes: {},
    carryOut: async () =>
      await withDomains(async (domains) => {
        const warnings: string[] = [];
        for (const id of new Set(work.points)) {
          try {
            await (await domains.holding(id, signal)).catalog.forget(id, signal);
          } catch (thrown) {
            if (!(thrown instanceof RepositoryError) || !SAID.has(thrown.code)) throw thrown;
            warnings.push(thrown.message);
          }
        }
        const points = new Set(work.points).size - warnings.length;
        return { version: 1, outcome: "Succeeded", message: `${points} restore points are forgotten`, warnings, points };
      }),
  };
}
