import { createHash } from "node:crypto";

import type { BackupRepository, Work, WorkType } from "../../api/index.ts";
import type { KubeObject, Manifest } from "../../kube/index.ts";

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
  readonly files: Readonly<Record<string, Buffer>>;
}

/** A path of the node that the agent sees under another. */
export interface HostMount {
  readonly name: string;
  readonly hostPath: string;
  readonly mountPath: string;
  /** of hostPath: what must be there */
  readonly type: "Directory" | "DirectoryOrCreate" | "BlockDevice" | "";
  readonly readOnly: boolean;
}

/** What an agent needs in the cluster, made in this order. */
export interface AgentObjects {
  readonly secret: Manifest & { readonly metadata: { readonly name: string; readonly namespace: string } };
  readonly pod: Manifest & { readonly metadata: { readonly name: string; readonly namespace: string } };
}

/** The name of a run's pod and of its Secret: the same whoever asks and however often. */
export function agentName(work: WorkType | "hold", uid: string, attempt: number): string {
  return `ts-${work}-${createHash("sha256").update(uid).digest("hex").slice(0, 10)}-${attempt}`;
}
