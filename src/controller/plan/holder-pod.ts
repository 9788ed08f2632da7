import type { PodManifest, PodSettings, WorkOwner } from "./pod-manifest.ts";
import { commonContainer, commonSpec, metadataOf, pinnedTo } from "./pod.ts";

/** A volume that a holder mounts. */
export interface HeldVolume {
  readonly volume: string;
  readonly claim: string;
  readonly mode: "Filesystem" | "Block";
}

/** What a holder's pod is made from. */
export interface HolderPod {
  readonly owner: WorkOwner;
  /** The machine's. */
  readonly namespace: string;
  readonly repository: string;
  /** Null: wherever the scheduler can have the volumes. */
  readonly node: string | null;
  readonly volumes: readonly HeldVolume[];
  readonly readOnly: boolean;
  readonly deadlineSeconds: number;
}

/** QEMU's user and group in KubeVirt. */
const QEMU = 107;

/**
 * A pod in the machine's namespace that has its volumes and waits, so that the agent on its node can reach them. It meets the "restricted"
 * Pod Security Standard: a tenant's namespace may enforce it. The volumes get the group that virt-launcher's pods give them.
 */
export function holderPod(pod: HolderPod, settings: PodSettings): PodManifest {
  const held = pod.volumes.map((volume, index) => ({ ...volume, name: `disk-${index}`, path: `/volumes/${volume.volume}` }));
  const devices = held.filter(({ mode }) => mode === "Block").map(({ name, path }) => ({ name, devicePath: path }));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: metadataOf("hold", pod),
    spec: {
      // The operator's pull secrets are not in a tenant's namespace: the node has the image, or pulls it without.
      ...commonSpec(settings, pod.deadlineSeconds),
      ...(pod.node === null ? {} : { affinity: pinnedTo(pod.node) }),
      // It has nothing to put in order.
      terminationGracePeriodSeconds: 1,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: QEMU,
        runAsGroup: QEMU,
        fsGroup: QEMU,
        fsGroupChangePolicy: "OnRootMismatch",
        seccompProfile: { type: "RuntimeDefault" },
      },
      containers: [
        {
          ...commonContainer("holder", settings),
          command: ["sleep", "infinity"],
          resources: settings.holderResources,
          securityContext: {
            privileged: false,
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ["ALL"] },
          },
          volumeMounts: held
            .filter(({ mode }) => mode === "Filesystem")
            .map(({ name, path }) => ({ name, mountPath: path, ...(pod.readOnly ? { readOnly: true } : {}) })),
          ...(devices.length === 0 ? {} : { volumeDevices: devices }),
        },
      ],
      volumes: held.map(({ name, claim }) => ({ name, persistentVolumeClaim: { claimName: claim } })),
    },
  };
}
