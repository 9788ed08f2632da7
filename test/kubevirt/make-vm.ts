import { CBT_LABEL, GUEST_ANNOTATION, QCOW2_ANNOTATION } from "./objects.ts";

export interface VolumeSpec {
  readonly name: string;
  readonly mode?: "Filesystem" | "Block";
  /** Default 64Mi; with the guest 256Mi is the least. */
  readonly size?: string;
  readonly storageClass?: string;
  /** An image as qcow2 on the claim. */
  readonly qcow2?: boolean;
  readonly bus?: "virtio" | "scsi" | "sata";
}

export interface VmSpec {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly volumes: readonly VolumeSpec[];
  /** Boots the lab's Linux guest, with its agent. */
  readonly guest?: boolean;
  /** With KubeVirt's changed block tracking. */
  readonly tracksBlocks?: boolean;
  readonly runStrategy?: "Always" | "Halted" | "Manual";
  readonly node?: string;
}

/** A VirtualMachine and its claims (named `<vm>-<volume>`), to be applied. */
export function vmObjects(spec: VmSpec): object[] {
  const { name, namespace = "default", volumes, guest = false, tracksBlocks = false, runStrategy = "Always" } = spec;
  const annotations = {
    ...(guest ? { [GUEST_ANNOTATION]: "true" } : {}),
    ...(volumes.some(({ qcow2 }) => qcow2) ? { [QCOW2_ANNOTATION]: volumes.filter(({ qcow2 }) => qcow2).map((one) => one.name).join(",") } : {}), // prettier-ignore
  };
  const vm = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name, namespace, labels: { ...(tracksBlocks ? { [CBT_LABEL]: "true" } : {}), ...spec.labels } },
    spec: {
      runStrategy,
      template: {
        metadata: { annotations, labels: { "kubevirt.io/domain": name } },
        spec: {
          domain: {
            devices: {
              disks: volumes.map((volume) => ({ name: volume.name, disk: { bus: volume.bus ?? "virtio" } })),
              interfaces: [{ name: "default", masquerade: {} }],
            },
            memory: { guest: guest ? "256Mi" : "64Mi" },
            machine: { type: "pc" },
          },
          networks: [{ name: "default", pod: {} }],
          ...(spec.node === undefined ? {} : { nodeSelector: { "kubernetes.io/hostname": spec.node } }),
          volumes: volumes.map((volume) => ({ name: volume.name, persistentVolumeClaim: { claimName: `${name}-${volume.name}` } })),
        },
      },
    },
  };
  return [...volumes.map((volume) => claimObject(volume, { name, namespace })), vm];
}

function claimObject(volume: VolumeSpec, { name, namespace }: { readonly name: string; readonly namespace: string }): object {
  const { mode = "Filesystem", size = "64Mi", storageClass } = volume;
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: `${name}-${volume.name}`, namespace },
    spec: {
      accessModes: ["ReadWriteOnce"],
      volumeMode: mode,
      resources: { requests: { storage: size } },
      ...(storageClass === undefined ? {} : { storageClassName: storageClass }),
    },
  };
}
