import type { BackupPolicy, BackupRepository, RestorePoint, RestoreRequest, VirtualMachineBackup } from "../api/index.ts";
import type { EventRecorder, Informer, KubeClient, KubeObject, Lister } from "../kube/index.ts";
import type { Logger } from "../lib/logger.ts";
import type { Agents } from "./agents/agents.ts";
import type { Mirroring } from "./catalog/mirroring.ts";
import type { ControllerConfig } from "./config.ts";
import type { Loose, Pod } from "./kinds.ts";
import type { Pace } from "./pace.ts";
import type { RunFigures } from "./serve/run-figures.ts";

/** Copies of the cluster's objects that follow it. KubeVirt's are absent where KubeVirt is. */
export interface Caches {
  readonly repositories: Informer<BackupRepository>;
  readonly policies: Informer<BackupPolicy>;
  readonly backups: Informer<VirtualMachineBackup>;
  readonly points: Informer<RestorePoint>;
  readonly restores: Informer<RestoreRequest>;
  readonly namespaces: Informer<KubeObject>;
  /** our own pods, in our namespace and the machines' */
  readonly agentPods: Informer<Pod>;
  readonly machines: Informer<Loose> | null;
  readonly instances: Informer<Loose> | null;
}

type ListerOf<Cache> = Cache extends Informer<infer T> ? { readonly lister: Lister<T> } : null;

/** What the caches know, for those who only look. */
export type Listers = { readonly [Kind in keyof Caches]: ListerOf<Caches[Kind]> };

/** What every reconciler works with. */
export interface ControllerContext {
  readonly client: KubeClient;
  readonly caches: Caches;
  readonly agents: Agents;
  readonly events: EventRecorder;
  readonly config: ControllerConfig;
  readonly log: Logger;
  readonly now: () => Date;
  readonly pace: Pace;
  readonly mirroring: Mirroring;
  /** What is counted for `/metrics`. */
  readonly figures: RunFigures;
  /** Aborts when this controller leads no longer. */
  readonly leadership: () => AbortSignal;
}

/** Looks at one object, by its key, and brings the world nearer to what it asks for. Resolves with when to look again, if nothing changes. */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<{ readonly againInMs: number } | undefined>;
