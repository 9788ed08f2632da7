import { type BackupPolicy, labels } from "../../api/index.ts";
import type { KubeObject } from "../../kube/index.ts";
import { selects } from "../access.ts";
import type { Listers } from "../context.ts";
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
export function selectMachines(policy: BackupPolicy, { machines, namespaces, policies }: Listers): readonly Selected[] {
  if (machines === null) return [];
  const before = [...policies.lister.list()].filter(
    (other) => other.metadata.name < policy.metadata.name && other.metadata.deletionTimestamp === undefined,
  );
  const found = [...machines.lister.list()].filter((vm) => takes(policy, vm, namespaces.lister));
  return found
    .map((vm) => ({ ...identityOf(vm), otherPolicy: before.find((other) => takes(other, vm, namespaces.lister))?.metadata.name ?? null }))
    .toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

/** What every policy selects, by the policy's name: as `selectMachines` has it, in one go over machines and policies. */
export function selectAll({ machines, namespaces, policies }: Listers): ReadonlyMap<string, readonly Selected[]> {
  const byName = [...policies.lister.list()]
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const selected = new Map<string, Selected[]>(byName.map(({ metadata }) => [metadata.name, []]));
  for (const vm of machines?.lister.list() ?? []) {
    const [first, ...others] = byName.filter((policy) => takes(policy, vm, namespaces.lister)).map(({ metadata }) => metadata.name);
    if (first === undefined) continue;
    selected.get(first)?.push({ ...identityOf(vm), otherPolicy: null });
    for (const other of others) selected.get(other)?.push({ ...identityOf(vm), otherPolicy: first });
  }
  return selected;
}

/** Whether a policy selects a machine, whatever others do. */
export function takes({ spec }: BackupPolicy, vm: KubeObject, namespaces: Listers["namespaces"]["lister"]): boolean {
  const own = vm.metadata.labels ?? {};
  if (vm.metadata.deletionTimestamp !== undefined || own[labels.backup] === "false" || !selects(spec.selector, own)) return false;
  if (spec.namespaces === undefined) return true;
  return selects(spec.namespaces.selector, namespaces.get(identityOf(vm).namespace)?.metadata.labels);
}

export function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}
