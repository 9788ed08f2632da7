import type { BackupRepository, Work } from "../../api/index.ts";
import type { KubeObject, Manifest } from "../../kube/index.ts";
import type { HostMount } from "../plan/kubevirt/host-paths.ts";

/** One piece of work for one agent. */
export interface AgentJob {
  /** whose work it is */
  readonly owner: KubeObject;
  /** from 1; a run's pods differ in it */
  readonly attempt: number;
  readonly work: Work;
  readonly repository: BackupRepository;
  readonly deadline: Date;
  /** 0: no limit */
  readonly uploadBytesPerSecond: number;
  /** node the pod is pinned to; null: any */
  readonly nodeName: string | null;
  readonly mounts: readonly HostMount[];
  /** files beside the order, by name */
  readonly files: Readonly<Record<string, string>>;
  /** more annotations of the pod */
  readonly annotations: Readonly<Record<string, string>>;
}

interface Addressed {
  readonly metadata: { readonly name: string; readonly namespace: string };
}

/** What an agent needs in the cluster: its order, and the pod that owns it. */
export interface AgentObjects {
  readonly pod: Manifest & Addressed;
  readonly secret: Manifest & Addressed;
}
