import type { KubeObject } from "../node/index.ts";
import { LAUNCHER_IMAGE, QEMU_USER } from "./launcher-image.ts";
import type { ClaimedDisk, VmObject, VmiObject } from "./objects.ts";
import { ownedBy } from "./objects.ts";

export const PRIVATE = "/var/run/kubevirt-private";
/** What libvirt keeps of its machines, the overlays of changed block tracking among it. */
export const stateDirectory: string = `${PRIVATE}/libvirt/qemu`;
export const CBT_DIR: string = `${stateDirectory}/cbt`;

const DIRECTORIES: readonly (readonly [string, string])[] = [
  ["private", PRIVATE],
  ["private-libvirt-qemu", stateDirectory],
  ["public", "/var/run/kubevirt"],
  ["sockets", "/var/run/kubevirt/sockets"],
  ["hotplug-disks", "/var/run/kubevirt/hotplug-disks"],
  ["libvirt-runtime", "/var/run/libvirt"],
  ["ephemeral-disks", "/var/run/kubevirt-ephemeral-disks"],
  ["container-disks", "/var/run/kubevirt/container-disks"],
];

export interface LauncherOptions {
  readonly disks: readonly ClaimedDisk[];
  /** The claim of the machine's own state, where it tracks blocks. */
  readonly stateClaim: string | undefined;
  /** A pod that a migration goes to: where, and the migration. */
  readonly target?: { readonly node: string; readonly migration: KubeObject };
}

/** The pod that KubeVirt would make for an instance. */
export function launcherPod(vm: VmObject, vmi: VmiObject, { disks, stateClaim, target }: LauncherOptions): object {
  const { name, namespace, uid } = vmi.metadata;
  const labels = {
    ...vm.spec.template.metadata?.labels,
    "kubevirt.io": "virt-launcher",
    "kubevirt.io/created-by": uid,
    "vmi.kubevirt.io/id": name,
    "vm.kubevirt.io/name": name,
    ...(target === undefined ? {} : { "kubevirt.io/migrationJobUID": target.migration.metadata.uid }),
  };
  const state = stateClaim === undefined ? [] : [{ name: "vm-state", claim: stateClaim }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      generateName: `virt-launcher-${name}-`,
      namespace,
      labels,
      annotations: { "kubevirt.io/domain": name, ...vm.spec.template.metadata?.annotations },
      ownerReferences: [ownedBy("VirtualMachineInstance", vmi)],
    },
    spec: {
      restartPolicy: "Never",
      terminationGracePeriodSeconds: 30,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      hostname: name,
      ...(target === undefined ? { nodeSelector: vm.spec.template.spec.nodeSelector ?? {} } : { nodeName: target.node }),
      securityContext: { runAsUser: QEMU_USER, runAsGroup: QEMU_USER, fsGroup: QEMU_USER, runAsNonRoot: true },
      containers: [computeContainer(vmi, disks, stateClaim !== undefined)],
      volumes: [
        ...DIRECTORIES.map(([directory]) => ({ name: directory, emptyDir: {} })),
        ...[...disks.map(({ volume, claim }) => ({ name: volume, claim })), ...state].map((one) => ({
          name: one.name,
          persistentVolumeClaim: { claimName: one.claim },
        })),
      ],
    },
  };
}

function computeContainer(vmi: VmiObject, disks: readonly ClaimedDisk[], hasState: boolean): object {
  const files = disks.filter(({ mode }) => mode === "Filesystem");
  const blocks = disks.filter(({ mode }) => mode === "Block");
  return {
    name: "compute",
    image: LAUNCHER_IMAGE,
    command: ["/usr/bin/virt-launcher"],
    env: [{ name: "VMI_UID", value: vmi.metadata.uid }],
    securityContext: {
      runAsUser: QEMU_USER,
      runAsNonRoot: true,
      allowPrivilegeEscalation: false,
      capabilities: { add: ["NET_BIND_SERVICE"], drop: ["ALL"] },
    },
    volumeMounts: [
      ...DIRECTORIES.map(([name, mountPath]) => ({ name, mountPath })),
      ...(hasState ? [{ name: "vm-state", mountPath: CBT_DIR, subPath: "cbt" }] : []),
      ...files.map(({ volume }) => ({ name: volume, mountPath: `${PRIVATE}/vmi-disks/${volume}` })),
    ],
    volumeDevices: blocks.map(({ volume }) => ({ name: volume, devicePath: `/dev/${volume}` })),
  };
}
