/**
 * A real Kubernetes API for tests: etcd and kube-apiserver, with or without controllers and scheduler, kubectl and helm,
 * KubeVirt's kinds, and KubeVirt's subresources answered by the test. Ends with the process that started it.
 */
export type { AuditedRequest } from "./audit.ts";
export { isWrite } from "./audit.ts";
export type { ControlPlaneOptions } from "./control-plane.ts";
export { ControlPlane } from "./control-plane.ts";
export type { CommandOptions } from "./identity.ts";
export { ClusterError, Identity, writeKubeconfig } from "./identity.ts";
export { applyKubeVirt } from "./kubevirt.ts";
export type { SubresourceCall, SubresourceHandler } from "./subresource-api.ts";
export { Refusal, serveSubresources } from "./subresource-api.ts";
