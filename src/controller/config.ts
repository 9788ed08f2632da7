import type { PodSettings } from "./plan/pod-manifest.ts";

/** What the controller is told when it starts; the chart's values. */
export interface ControllerConfig {
  /** Where the operator and its agents run. */
  readonly namespace: string;
  /** This controller among its replicas: the pod's name. */
  readonly identity: string;
  /** How pods of ours are made. */
  readonly pods: PodSettings;
  /** The kubelet's root on every node. */
  readonly kubeletRoot: string;
  /** Port that agents answer the controller on. */
  readonly agentPort: number;
  /** Port of `/healthz`, `/readyz` and `/metrics`. */
  readonly metricsPort: number;
  /** Backups at a time in the whole cluster. */
  readonly maxAgents: number;
  /** milliseconds between two readings of a repository's catalog */
  readonly syncMs: number;
}
