import type { BackupPolicy } from "../../api/index.ts";
import { conditionOf, type Say } from "../said.ts";

/** A machine that a policy selects and does not protect. */
export interface Unprotected {
  readonly namespace: string;
  readonly name: string;
  readonly reason: string;
  readonly message: string;
}

const MOST_NAMED = 5;

interface Trouble {
  readonly reason: string;
  readonly note: string;
}

/** What a policy's status is about to say that it did not say before, and somebody should hear of. */
export function newTroubles(policy: BackupPolicy, [ready]: readonly Say[], unprotected: readonly Unprotected[]): readonly Trouble[] {
  const before = new Set(policy.status?.unprotected?.filter(({ reason }) => reason === "OtherPolicy").map(nameOf));
  const found: Trouble[] = [];
  if (ready !== undefined && isTrouble(ready) && conditionOf(policy, "Ready")?.reason !== ready.reason)
    found.push({ reason: ready.reason, note: ready.message });
  const [first, ...more] = unprotected.filter((one) => one.reason === "OtherPolicy" && !before.has(nameOf(one)));
  // One event however many machines two policies share.
  if (first !== undefined) {
    const others = more.length === 0 ? "" : `; so it is for ${more.length} more: ${more.slice(0, MOST_NAMED).map(nameOf).join(", ")}`;
    found.push({ reason: first.reason, note: `${nameOf(first)}: ${first.message}${others}${more.length > MOST_NAMED ? ", …" : ""}` });
  }
  return found;
}

function isTrouble({ status, reason }: Say): boolean {
  return status === "False" || reason === "NothingSelected";
}

function nameOf({ namespace, name }: Unprotected): string {
  return `${namespace}/${name}`;
}
