import type { BackupRepository, LabelSelector } from "../api/index.ts";
import type { ControllerContext } from "./context.ts";
import { conditionOf } from "./said.ts";

/** Whether labels are as a selector asks. An empty selector takes all. */
export function selects(selector: LabelSelector | undefined, labels: Readonly<Record<string, string>> | undefined): boolean {
  const has = labels ?? {};
  const exact = Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => has[key] === value);
  return exact && (selector?.matchExpressions ?? []).every((requirement) => meets(requirement, has));
}

type Requirement = NonNullable<LabelSelector["matchExpressions"]>[number];

function meets({ key, operator, values = [] }: Requirement, has: Readonly<Record<string, string>>): boolean {
  const value = Object.hasOwn(has, key) ? has[key] : undefined;
  const isListed = value !== undefined && values.includes(value);
  const met = { In: isListed, NotIn: !isListed, Exists: value !== undefined, DoesNotExist: value === undefined };
  return met[operator];
}

export type Access =
  | { readonly repository: BackupRepository }
  | {
      readonly refusal: { readonly reason: "RepositoryNotFound" | "RepositoryNotReady" | "NamespaceNotAllowed"; readonly message: string };
    };

/** The repository that a resource of a namespace may use, or why it may not. */
export function accessOf({ caches }: Pick<ControllerContext, "caches">, name: string, namespace: string): Access {
  const repository = caches.repositories.lister.get(name);
  if (repository === undefined) {
    return { refusal: { reason: "RepositoryNotFound", message: `there is no BackupRepository ${name}: make it, or name another` } };
  }
  if (!allows(repository, caches.namespaces.lister.get(namespace)?.metadata.labels)) {
    const message = `the BackupRepository ${name} does not allow namespace ${namespace}: ask for the labels that its allowedNamespaces selects`;
    return { refusal: { reason: "NamespaceNotAllowed", message } };
  }
  const ready = conditionOf(repository, "Ready");
  if (ready?.status !== "True") {
    const why = ready === undefined ? "it was not looked at yet" : ready.message;
    return { refusal: { reason: "RepositoryNotReady", message: `the BackupRepository ${name} is not ready: ${why}` } };
  }
  return { repository };
}

export function allows({ spec }: BackupRepository, labels: Readonly<Record<string, string>> | undefined): boolean {
  return spec.allowedNamespaces === undefined || selects(spec.allowedNamespaces.selector, labels);
}
