import { type LockedResult, type LockWork, rfc3339 } from "../../api/index.ts";
import { lockDomains, type LockReport } from "../../repository/index.ts";
import type { OrderedWork, OrderJob } from "./job.ts";

const MAX_WARNINGS = 8;

/** Extends the locks of what restore points need. What it finds exposed it says, and is no failure of its own. */
export function lockWork({ seconds, requests }: LockWork, { board, signal, withDomains }: OrderJob): OrderedWork {
  return {
    routes: {},
    carryOut: async () =>
      await withDomains(async (domains) => {
        board.enter("Working");
        const report = await lockDomains(domains, { periodMs: seconds * 1000, budget: requests, signal });
        const told = resultOf(report);
        return { version: 1, outcome: "Succeeded", message: messageOf(told), warnings: warningsOf(report), lock: told };
      }),
  };
}

function resultOf({ locked, soonest, renewed, left, unlocked, missing, overwritten, hidden, unclear }: LockReport): LockedResult {
  return {
    objects: locked.reduce((sum, { objects }) => sum + objects, 0),
    ...(soonest === null ? {} : { soonest: rfc3339(soonest) }),
    renewed,
    left,
    exposed: unlocked + missing.objects + overwritten.objects + hidden.objects + unclear.length,
  };
}

function warningsOf({ missing, overwritten, hidden, unclear, distrusted }: LockReport): string[] {
  return [
    ...named("is missing", missing.keys),
    ...named("was overwritten", overwritten.keys),
    ...named("was deleted", hidden.keys),
    ...unclear.map(({ id, reason }) => `${id}: ${reason}`),
    ...(distrusted ? ["what was noted of locks was untrue: every lock was asked for"] : []),
  ].slice(0, MAX_WARNINGS);
}

function named(what: string, keys: readonly string[]): readonly string[] {
  return keys.map((key) => `${key} ${what}`);
}

function messageOf({ objects, soonest, renewed, left, exposed }: LockedResult): string {
  const until = soonest === undefined ? "" : `, all of them until ${soonest} at least`;
  const locked = `${objects} objects that restore points need are locked${until}; ${renewed} locks were extended${left === 0 ? "" : `, ${left} more are left for the next time`}`;
  return exposed === 0
    ? locked
    : `${exposed} objects that restore points need are not locked, missing, overwritten or deleted: \`thinstream lock --verify\` names them; ${locked}`;
}
