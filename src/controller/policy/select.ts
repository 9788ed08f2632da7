import { type BackupPolicy, labels } from "../../api/index.ts";
import type { KubeObject } from "../../kube/index.ts";
import { selects } from "../access.ts";
import type { Caches } from "../context.ts";
import { identityOf } from "../identity.ts";

/** A virtual machine that a policy selects. */
export interface Selected {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly createdAt: Date;
  /** Policy that backs it up instead: the first by name does. */
  readonly otherPolicy: string | null;
}

/** The machines that a policy selects, by namespace and name. */
export function selectMachines(policy: BackupPolicy, { machines, namespaces, policies }: Caches): readonly Selected[] {
  if (machines === null) return [];
  const before = [...policies.lister.list()].filter(
    (other) => other.metadata.name < policy.metadata.name && other.metadata.deletionTimestamp === undefined,
  );
  const found = [...machines.lister.list()].filter((vm) => takes(policy, vm, namespaces));
  return found
    .map((vm) => ({ ...identityOf(vm), otherPolicy: before.find((other) => takes(other, vm, namespaces))?.metadata.name ?? null }))
    .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

function takes({ spec }: BackupPolicy, vm: KubeObject, namespaces: Caches["namespaces"]): boolean {
  const own = vm.metadata.labels ?? {};
  if (vm.metadata.deletionTimestamp !== undefined || own[labels.backup] === "false" || !selects(spec.selector, own)) return false;
  if (spec.namespaces === undefined) return true;
  return selects(spec.namespaces.selector, namespaces.lister.get(identityOf(vm).namespace)?.metadata.labels);
}

export function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}
