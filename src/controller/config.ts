/** What the controller is told when it starts; the chart's values. */
export interface ControllerConfig {
  /** Where the operator and its agents run. */
  readonly namespace: string;
  /** This controller among its replicas: the pod's name. */
  readonly identity: string;
  /** Of the agents: the controller's own. */
  readonly image: string;
  readonly imagePullPolicy: "Always" | "IfNotPresent" | "Never";
  readonly imagePullSecrets: readonly string[];
  /** The kubelet's root on every node. */
  readonly kubeletRoot: string;
  readonly agentPriorityClass: string | null;
  readonly agentTolerations: readonly object[];
  readonly agentResources: object;
  /** SELinux type of the agents' containers; null: the runtime's own. */
  readonly agentSeLinuxType: string | null;
  /** Port that agents answer the controller on. */
  readonly agentPort: number;
  /** Backups and restores at a time in the whole cluster. */
  readonly maxAgents: number;
  /** milliseconds between two readings of a repository's catalog */
  readonly syncMs: number;
}
