/**
 * A real Kubernetes API for tests: etcd and kube-apiserver, with or without controllers and scheduler, kubectl and helm.
 */
export type { AuditedRequest } from "./audit.ts";
export { isWrite } from "./audit.ts";
export type { ControlPlaneOptions } from "./control-plane.ts";
export { ControlPlane } from "./control-plane.ts";
export type { CommandOptions } from "./identity.ts";
export { ClusterError, Identity } from "./identity.ts";
