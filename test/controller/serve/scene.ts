import type {
  BackupPolicy,
  BackupRepository,
  Condition,
  RestorePoint,
  RestoreRequest,
  VirtualMachineBackup,
} from "../../../src/api/index.ts";
import { BY_MACHINE, machineKey } from "../../../src/controller/backup/newest.ts";
import type { Listers } from "../../../src/controller/context.ts";
import type { Loose } from "../../../src/controller/kinds.ts";
import type { Scene } from "../../../src/controller/serve/sight.ts";
import type { KubeObject } from "../../../src/kube/index.ts";
import { type IndexFunction, ObjectCache } from "../../../src/kube/object-cache.ts";

export const NOW = new Date("2026-11-21T12:00:00Z");

export interface Cluster {
  readonly policies?: readonly BackupPolicy[];
  readonly machines?: readonly Loose[] | null;
  readonly namespaces?: readonly KubeObject[];
  readonly points?: readonly RestorePoint[];
  readonly repositories?: readonly BackupRepository[];
  readonly backups?: readonly VirtualMachineBackup[];
  readonly restores?: readonly RestoreRequest[];
}

/** The controller's caches with these objects in them. */
export function listersOf(cluster: Cluster): Listers {
  const machines = cluster.machines === undefined ? [] : cluster.machines;
  return {
    policies: cached(cluster.policies),
    repositories: cached(cluster.repositories),
    backups: cached(cluster.backups),
    restores: cached(cluster.restores),
    points: cached(cluster.points, { [BY_MACHINE]: ({ spec }) => [machineKey(spec.repositoryRef.name, spec.vm)] }),
    namespaces: cached(cluster.namespaces),
    agentPods: cached([]),
    machines: machines === null ? null : cached(machines),
    instances: null,
  };
}

function cached<T extends KubeObject>(
  objects: readonly T[] = [],
  indices: Readonly<Record<string, IndexFunction<T>>> = {},
): { readonly lister: ObjectCache<T> } {
  const lister = new ObjectCache<T>(indices);
  for (const object of objects) lister.set(object);
  return { lister };
}

export function sceneOf(cluster: Cluster | null, more: Partial<Scene> = {}): Scene {
  return { caches: cluster === null ? null : listersOf(cluster), queues: [], answers: [], leads: cluster !== null, now: NOW, ...more };
}

export function condition(type: string, status: Condition["status"], reason: string = "Completed"): Condition {
  return { type, status, reason, message: "", lastTransitionTime: "2026-11-21T00:00:00Z" };
}

function meta(name: string, namespace?: string, labels: Readonly<Record<string, string>> = {}): KubeObject["metadata"] {
  const place = namespace === undefined ? {} : { namespace };
  return { name, ...place, uid: `uid-${namespace ?? ""}-${name}`, resourceVersion: "1", creationTimestamp: "2026-11-01T00:00:00Z", labels };
}

export function machine(namespace: string, name: string, labels: Readonly<Record<string, string>> = {}): Loose {
  return { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata: meta(name, namespace, labels) };
}

export function policy(name: string, spec: Partial<BackupPolicy["spec"]>): BackupPolicy {
  const object = {
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "BackupPolicy",
    metadata: meta(name),
    spec: { repositoryRef: { name: "main" }, ...spec },
  };
  return object as BackupPolicy;
}

export function repository(name: string, status: BackupRepository["status"]): BackupRepository {
  return {
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "BackupRepository",
    metadata: meta(name),
    spec: {
      maintenance: {
        timeZone: "UTC",
        ...(name === "main" ? { prune: { schedule: "@daily" }, check: { schedule: "@weekly", level: "List", samplePercent: 0 } } : {}),
      },
    },
    status,
  } as BackupRepository;
}

export function point(vm: { readonly namespace?: string; readonly name: string }, seq: number, time: string): RestorePoint {
  const spec = { repositoryRef: { name: "main" }, pointId: `0a-${seq}`, vm, time };
  const home = vm.namespace ?? "thinstream-system";
  return { apiVersion: "thinstream.dev/v1alpha1", kind: "RestorePoint", metadata: meta(`${vm.name}-${seq}`, home), spec } as RestorePoint;
}

export function backup(
  name: string,
  status: VirtualMachineBackup["status"],
  spec: Partial<VirtualMachineBackup["spec"]> = {},
): VirtualMachineBackup {
  const object = {
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "VirtualMachineBackup",
    metadata: meta(name, "shop"),
    spec: { level: "Auto", repositoryRef: { name: "main" }, source: { virtualMachine: { name: "web" } }, ...spec },
    status,
  };
  return object as VirtualMachineBackup;
}
