/** The parts of a Pod that ours have; any client's Pod takes them. */
export interface PodManifest {
  readonly apiVersion: "v1";
  readonly kind: "Pod";
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly restartPolicy: "Never";
    readonly automountServiceAccountToken: false;
    readonly enableServiceLinks: false;
    readonly terminationGracePeriodSeconds: number;
    readonly activeDeadlineSeconds: number;
    readonly serviceAccountName?: string;
    readonly priorityClassName?: string;
    readonly imagePullSecrets?: readonly { readonly name: string }[];
    readonly tolerations?: readonly Toleration[];
    readonly affinity?: object;
    readonly securityContext: object;
    readonly containers: readonly [ContainerManifest];
    readonly volumes: readonly object[];
  };
}

export interface ContainerManifest {
  readonly name: string;
  readonly image: string;
  readonly imagePullPolicy: PullPolicy;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly object[];
  readonly ports?: readonly object[];
  readonly resources: Resources;
  readonly securityContext: object;
  readonly terminationMessagePath: string;
  readonly terminationMessagePolicy: "FallbackToLogsOnError";
  readonly volumeMounts: readonly object[];
  readonly volumeDevices?: readonly object[];
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface SecretManifest {
  readonly apiVersion: "v1";
  readonly kind: "Secret";
  readonly metadata: ObjectMeta;
  readonly type: "Opaque";
  readonly immutable: true;
  readonly data: Readonly<Record<string, string>>;
}

export type PullPolicy = "Always" | "IfNotPresent" | "Never";

export interface Toleration {
  readonly key?: string;
  readonly operator?: "Exists" | "Equal";
  readonly value?: string;
  readonly effect?: string;
  readonly tolerationSeconds?: number;
}

export interface Resources {
  readonly requests?: Readonly<Record<string, string>>;
  readonly limits?: Readonly<Record<string, string>>;
}

/** What pods of ours are made with, from the operator's configuration. */
export interface PodSettings {
  readonly operatorNamespace: string;
  readonly image: string;
  readonly imagePullPolicy: PullPolicy;
  readonly imagePullSecrets: readonly string[];
  readonly priorityClassName: string | null;
  /** Those of every node that virtual machines run on. */
  readonly tolerations: readonly Toleration[];
  readonly agentResources: Resources;
  readonly holderResources: Resources;
  /** Null: without token or rights all the same, the namespace's default. */
  readonly agentServiceAccount: string | null;
  /** SELinux type of agents that have a machine's directories, such as `spc_t`; null on nodes without SELinux. */
  readonly selinuxType: string | null;
}

export type WorkKind = "backup" | "restore" | "catalog" | "check" | "forget" | "inspect" | "lock" | "prune";

/** The resource that a pod works for. */
export interface WorkOwner {
  readonly uid: string;
  readonly kind: string;
  /** Empty for a cluster's. */
  readonly namespace: string;
  readonly name: string;
  readonly attempt: number;
}
