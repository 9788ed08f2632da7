import type { Bundle } from "./bundle.ts";

type Values = Readonly<Record<string, string>>;

/** By these a GitOps tool or Helm knows what is its own, and would remove a copy. */
const marks =
  /^(?:argocd\.argoproj\.io\/|kustomize\.toolkit\.fluxcd\.io\/|helm\.toolkit\.fluxcd\.io\/|meta\.helm\.sh\/|helm\.sh\/|app\.kubernetes\.io\/(?:managed-by|instance)$)/;

/** Whether a machine is restored beside what it was: under another name, or in another namespace. */
export function isCopy(target: { readonly namespace: string; readonly name: string }, bundle: Bundle): boolean {
  return target.name !== bundle.name || target.namespace !== bundle.namespace;
}

/** Labels or annotations, for a copy without those that say whose the original is. */
export function withoutMarks(values: Values | undefined, copied: boolean): Values {
  return without(values, (name) => copied && marks.test(name));
}

export function without(values: Values | undefined, drops: (name: string, value: string) => boolean): Values {
  return Object.fromEntries(Object.entries(values ?? {}).filter(([name, value]) => !drops(name, value)));
}
