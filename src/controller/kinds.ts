import {
  type BackupPolicy,
  backupPolicy,
  type BackupRepository,
  backupRepository,
  group,
  type Kind,
  type RestorePoint,
  restorePoint,
  type RestoreRequest,
  restoreRequest,
  version,
  type VirtualMachineBackup,
  virtualMachineBackup,
} from "../api/index.ts";
import type { KubeObject, ResourceKind } from "../kube/index.ts";
import type { PodFacts } from "./dispatch/pod-state.ts";

function own<T extends KubeObject>({ kind, plural, scope }: Kind): ResourceKind<T> {
  return { group, version, plural, kind, namespaced: scope === "Namespaced" };
}

/** Our own kinds. */
export const repositories: ResourceKind<BackupRepository> = own(backupRepository);
export const policies: ResourceKind<BackupPolicy> = own(backupPolicy);
export const backups: ResourceKind<VirtualMachineBackup> = own(virtualMachineBackup);
export const restorePoints: ResourceKind<RestorePoint> = own(restorePoint);
export const restoreRequests: ResourceKind<RestoreRequest> = own(restoreRequest);

export interface Pod extends KubeObject, PodFacts {
  readonly metadata: KubeObject["metadata"];
  readonly spec?: { readonly nodeName?: string };
}

export interface Secret extends KubeObject {
  readonly type?: string;
  readonly immutable?: boolean;
  /** base64 by name */
  readonly data?: Readonly<Record<string, string>>;
}

/** Any object whose fields are looked at by functions of their own. */
export interface Loose extends KubeObject {
  readonly [field: string]: unknown;
}

function core<T extends KubeObject>(kind: string, plural: string, namespaced: boolean = true): ResourceKind<T> {
  return { group: "", version: "v1", plural, kind, namespaced };
}

export const pods: ResourceKind<Pod> = core("Pod", "pods");
export const secrets: ResourceKind<Secret> = core("Secret", "secrets");
export const namespaces: ResourceKind = core("Namespace", "namespaces", false);
export const nodes: ResourceKind = core("Node", "nodes", false);
export const claims: ResourceKind<Loose> = core("PersistentVolumeClaim", "persistentvolumeclaims");
export const volumes: ResourceKind<Loose> = core("PersistentVolume", "persistentvolumes", false);

function kubevirt(kind: string, plural: string): ResourceKind<Loose> {
  return { group: "kubevirt.io", version: "v1", plural, kind, namespaced: true };
}

export const machines: ResourceKind<Loose> = kubevirt("VirtualMachine", "virtualmachines");
export const instances: ResourceKind<Loose> = kubevirt("VirtualMachineInstance", "virtualmachineinstances");
export const migrations: ResourceKind<Loose> = kubevirt("VirtualMachineInstanceMigration", "virtualmachineinstancemigrations");

/** KubeVirt's actions on an instance are an API of their own. */
export const instanceActions: ResourceKind = {
  group: "subresources.kubevirt.io",
  version: "v1",
  plural: "virtualmachineinstances",
  kind: "VirtualMachineInstance",
  namespaced: true,
};
