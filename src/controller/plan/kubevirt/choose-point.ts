import type { RestorePoint, RestoreRequest } from "../../../api/index.ts";

/** Where a request may look: its own namespace, and the operator's, from which everything may be restored. */
export interface Standing {
  /** the request's */
  readonly namespace: string;
  /** the operator's */
  readonly home: string;
}

/** Why a request is not carried out. Final: no change could help. */
export interface PointRefusal {
  readonly reason: "NotPermitted" | "RestorePointNotFound" | "VirtualMachineNotInPoint";
  readonly message: string;
  readonly final: boolean;
}

export interface ChosenPoint {
  readonly repository: string;
  readonly pointId: string;
  readonly pointTime: string;
}

type Source = RestoreRequest["spec"]["source"];
type AskedMachine = NonNullable<Source["repository"]>["vm"];

/** A machine's name in the repository. A libvirt domain has no namespace. */
export function askedMachine({ name, namespace }: AskedMachine, standing: Standing): string {
  const home = namespace ?? standing.namespace;
  return home === "" ? name : `${home}/${name}`;
}

/** What a request must not ask for, whatever the repository has. */
export function forbidden({ spec }: RestoreRequest, standing: Standing): PointRefusal | null {
  if (standing.namespace === standing.home) return null;
  const target = spec.target.virtualMachine?.namespace ?? standing.namespace;
  const from = spec.source.repository?.vm.namespace ?? standing.namespace;
  const apply = `apply the request in namespace ${standing.home}`;
  if (target !== standing.namespace)
    return final("NotPermitted", `a request of namespace ${standing.namespace} cannot restore into namespace ${target}: ${apply}`);
  if (from !== standing.namespace) {
    const what = from === "" ? "a libvirt domain" : `a virtual machine of namespace ${from}`;
    return final("NotPermitted", `a request of namespace ${standing.namespace} cannot restore ${what}: ${apply}`);
  }
  return null;
}

/**
 * The restore point that is asked for, as mirrors have it. They only say where to look: anybody who may write them could have. What the point is of
 * is checked when the repository itself has told.
 */
export function choosePoint({ spec }: RestoreRequest, mirrors: readonly RestorePoint[], standing: Standing): ChosenPoint | PointRefusal {
  const there = mirrors.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const { restorePointRef, repository } = spec.source;
  const found = repository === undefined ? named(there, restorePointRef?.name ?? "", standing) : newest(there, repository, standing);
  if (found !== undefined) return { repository: found.spec.repositoryRef.name, pointId: found.spec.pointId, pointTime: found.spec.time };
  return { reason: "RestorePointNotFound", message: notFound(spec.source, standing), final: false };
}

function named(mirrors: readonly RestorePoint[], name: string, { namespace }: Standing): RestorePoint | undefined {
  return mirrors.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace);
}

/** Where the controller itself puts mirrors: in the machine's namespace, or in its own. */
function newest(
  mirrors: readonly RestorePoint[],
  { name, vm, time }: NonNullable<Source["repository"]>,
  standing: Standing,
): RestorePoint | undefined {
  const namespace = vm.namespace ?? standing.namespace;
  const latest = time === undefined ? Infinity : Date.parse(time);
  return mirrors
    .filter(({ metadata }) => metadata.namespace === namespace || metadata.namespace === standing.home)
    .filter(({ spec }) => spec.repositoryRef.name === name && spec.vm.name === vm.name && (spec.vm.namespace ?? "") === namespace)
    .filter(({ spec }) => Date.parse(spec.time) <= latest)
    .toSorted((a, b) => Date.parse(b.spec.time) - Date.parse(a.spec.time) || number(b) - number(a))[0];
}

function number({ spec }: RestorePoint): number {
  return Number(/-(\d+)$/.exec(spec.pointId)?.[1] ?? 0);
}

function notFound({ restorePointRef, repository }: Source, standing: Standing): string {
  if (repository === undefined)
    return `there is no RestorePoint ${restorePointRef?.name ?? ""} in namespace ${standing.namespace}: kubectl get rp lists those that are there`;
  const at = repository.time === undefined ? "" : ` that was made by ${repository.time}`;
  return `the repository ${repository.name} has no restore point of ${askedMachine(repository.vm, standing)}${at}: kubectl get rp -A lists those that are there`;
}

/** Whether the request may have the point, by what the repository says it is of. @param machine its name there */
export function refusalOfPoint(
  { spec }: RestoreRequest,
  { pointId, machine }: { readonly pointId: string; readonly machine: string },
  standing: Standing,
): PointRefusal | null {
  const slash = machine.indexOf("/");
  const namespace = slash > 0 ? machine.slice(0, slash) : null;
  if (namespace !== standing.namespace && standing.namespace !== standing.home) {
    const of = namespace === null ? "a libvirt domain" : `a machine of namespace ${namespace}`;
    return final(
      "NotPermitted",
      `the restore point ${pointId} is of ${of}, which only a request in namespace ${standing.home} may restore: apply it there`,
    );
  }
  const { repository } = spec.source;
  const asked = repository === undefined ? machine : askedMachine(repository.vm, standing);
  if (asked !== machine)
    return final(
      "RestorePointNotFound",
      `the restore point ${pointId} is of ${machine}, not of ${asked}: name the machine whose points there are`,
    );
  return null;
}

function final(reason: PointRefusal["reason"], message: string): PointRefusal {
  return { reason, message, final: true };
}
