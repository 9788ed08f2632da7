import type { BackupPolicy } from "../../api/index.ts";
import type { KubeObject } from "../../kube/index.ts";
import type { Caches } from "../context.ts";
import { takes } from "./select.ts";

/**
 * Tells of every policy that selects other machines than before: machines come, go and are labelled, so are namespaces, and where two policies
 * select one machine it is the first one's. Returns the ways to stop that.
 */
export function followSelection(
  { machines, namespaces, policies }: Pick<Caches, "machines" | "namespaces" | "policies">,
  tell: (policy: string) => void,
): readonly (() => void)[] {
  const tellOf = (changed: (policy: BackupPolicy) => boolean): void => {
    for (const policy of policies.lister.list()) if (changed(policy)) tell(policy.metadata.name);
  };
  const takesIt = (vm: KubeObject): void => tellOf((policy) => takes(policy, vm, namespaces.lister));
  const picky = (): void => tellOf(({ spec }) => spec.namespaces !== undefined);
  const all = (): void => tellOf(() => true);
  const ends = [
    namespaces.subscribe({
      updated: (before, after) => {
        if (!sameLabels(before, after)) picky();
      },
      // Its machines may be known before it is.
      added: picky,
    }),
    policies.subscribe({
      updated: (before, after) => {
        if (before.metadata.generation !== after.metadata.generation) all();
      },
      added: all,
      deleted: all,
    }),
  ];
  if (machines === null) return ends;
  const end = machines.subscribe({
    added: takesIt,
    deleted: takesIt,
    updated: (before, after) => tellOf((policy) => takes(policy, before, namespaces.lister) !== takes(policy, after, namespaces.lister)),
  });
  return [...ends, end];
}

function sameLabels(one: KubeObject, other: KubeObject): boolean {
  return JSON.stringify(one.metadata.labels) === JSON.stringify(other.metadata.labels);
}
