import type { KubeObject, ResourceKind } from "./object.ts";

/** coordination.k8s.io/v1 Lease. */
export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

export const leases: ResourceKind<Lease> = {
  group: "coordination.k8s.io",
  version: "v1",
  plural: "leases",
  kind: "Lease",
  namespaced: true,
};

/** metav1.MicroTime */
export function microTime(time: Date): string {
  return time.toISOString().replace("Z", "000Z");
}

export function holderOf(lease: Lease): string {
  return lease.spec?.holderIdentity ?? "";
}
