import { bundle, type KubeObject, parseBundle } from "../../../src/controller/plan/kubevirt/bundle.ts";
import type { VirtualMachine, VirtualMachineInstance } from "../../../src/controller/plan/kubevirt/objects.ts";
import type { PointFacts, RestoreWish, TargetFacts } from "../../../src/controller/plan/kubevirt/restore-request.ts";

const GIB = 2 ** 30;

/** A machine with one of everything that is captured. */
export const richVm: VirtualMachine & KubeObject = {
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachine",
  metadata: {
    name: "web",
    namespace: "shop",
    uid: "vm-uid",
    labels: { app: "web", "app.kubernetes.io/instance": "argo-app" },
    annotations: {
      owner: "team-a",
      "kubectl.kubernetes.io/last-applied-configuration": "{}",
      "restore.kubevirt.io/lastRestoreUID": "old",
      "argocd.argoproj.io/tracking-id": "web:kubevirt.io/VirtualMachine:shop/web",
    },
    ...({ resourceVersion: "77", generation: 3, finalizers: ["kubevirt.io/vm"], managedFields: [{ manager: "x" }] } as object),
    creationTimestamp: "2026-01-01T00:00:00Z",
    ownerReferences: [{ kind: "X", name: "x", uid: "x" }],
  },
  spec: {
    running: true,
    instancetype: { kind: "VirtualMachineClusterInstancetype", name: "u1.small" },
    preference: { kind: "virtualmachinepreference", name: "fedora" },
    dataVolumeTemplates: [
      { metadata: { name: "web-root" }, ...({ spec: { source: { registry: { url: "docker://x" } }, storage: {} } } as object) },
    ],
    template: {
      ...({ metadata: { labels: { app: "web", "kubevirt.io/nodeName": "n1" }, annotations: { note: "a" } } } as object),
      spec: {
        ...({ evictionStrategy: "LiveMigrate" } as object),
        accessCredentials: [
          { sshPublicKey: { source: { secret: { secretName: "ssh" } } } },
          { userPassword: { source: { secret: { secretName: "password" } } } },
        ],
        networks: [{ name: "default" }, { name: "vlan", multus: { networkName: "net/vlan7" } }],
        domain: {
          devices: {
            disks: ["root", "data", "init", "sys", "os", "cm"].map((name) => ({ name, disk: {} })),
            interfaces: [{ name: "default" }, { name: "vlan", macAddress: "02:00:00:00:00:07" }],
            tpm: { persistent: true },
          },
          firmware: { serial: "S1", kernelBoot: { container: { imagePullSecret: "boot-pull" } } },
        },
        volumes: [
          { name: "root", dataVolume: { name: "web-root" } },
          { name: "data", persistentVolumeClaim: { claimName: "web-data" } },
          { name: "init", cloudInitNoCloud: { secretRef: { name: "user-data" }, networkDataSecretRef: { name: "net-data" } } },
          { name: "sys", sysprep: { configMap: { name: "unattend" } } },
          { name: "os", containerDisk: { imagePullSecret: "os-pull" } },
          { name: "cm", configMap: { name: "settings" } },
          { name: "sa", serviceAccount: { serviceAccountName: "robot" } },
          { name: "dump", memoryDump: { claimName: "web-dump" } },
        ],
      },
    },
  },
  status: {
    instancetypeRef: { controllerRevisionRef: { name: "web-u1.small-v1-1" } },
    preferenceRef: { controllerRevisionRef: { name: "web-fedora-v1-1" } },
  },
};

export const richVmi: VirtualMachineInstance & KubeObject = {
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachineInstance",
  metadata: { name: "web", namespace: "shop", uid: "vmi-uid" },
  spec: {
    domain: { devices: { disks: [{ name: "extra", disk: { bus: "scsi" } }] } },
    volumes: [{ name: "extra", persistentVolumeClaim: { claimName: "web-extra", hotpluggable: true } }],
  },
  status: {
    phase: "Running",
    interfaces: [
      { name: "default", mac: "52:54:00:aa:bb:cc" },
      { name: "vlan", mac: "02:00:00:00:00:07" },
    ],
    volumeStatus: [{ name: "root", persistentVolumeClaimInfo: { filesystemOverhead: "0.055" } }],
  },
};

function claim(name: string, spec: object = {}, labels: Record<string, string> = {}): KubeObject {
  const all = {
    accessModes: ["ReadWriteOnce"],
    volumeMode: "Filesystem",
    storageClassName: "fast",
    volumeName: `pvc-${name}`,
    resources: { requests: { storage: "10Gi" } },
    ...spec,
  };
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace: "shop", uid: name, labels, annotations: { "pv.kubernetes.io/bind-completed": "yes" } },
    spec: all,
  };
}

function plain(apiVersion: string, kind: string, name: string, more: object = {}): KubeObject {
  return { apiVersion, kind, metadata: { name, namespace: "shop", uid: `${kind}-${name}` }, ...more };
}

export const richObjects: readonly KubeObject[] = [
  richVm,
  richVmi,
  claim("web-root", {}, { app: "containerized-data-importer", team: "a" }),
  claim("web-data", { volumeMode: "Block", accessModes: ["ReadWriteMany"], storageClassName: "slow" }),
  claim("web-extra", {}, { app: "web", "app.kubernetes.io/managed-by": "cdi-controller" }),
  claim("persistent-state-for-web-x7k2p", { resources: { requests: { storage: "10Mi" } } }, { "persistent-state-for": "web" }),
  plain("v1", "Secret", "user-data", { type: "Opaque", data: { userdata: "I2Nsb3Vk" } }),
  plain("v1", "Secret", "robot-token", { type: "kubernetes.io/service-account-token", data: { token: "eA==" } }),
  plain("v1", "ConfigMap", "settings", { data: { a: "b" } }),
  plain("v1", "ServiceAccount", "robot", { secrets: [{ name: "robot-token" }] }),
  plain("apps/v1", "ControllerRevision", "web-u1.small-v1-1", { revision: 1, data: { spec: { cpu: 1 } } }),
  { apiVersion: "k8s.cni.cncf.io/v1", kind: "NetworkAttachmentDefinition", metadata: { name: "vlan7", namespace: "net" }, spec: {} },
];

export const richPoint: PointFacts = {
  bundle: parseBundle(
    bundle({ namespace: "shop", name: "web" }, richObjects, [{ apiVersion: "v1", kind: "Secret", namespace: "shop", name: "ssh" }]),
  ),
  disks: [
    { name: "root", sizeBytes: 10 * GIB },
    { name: "data", sizeBytes: 20 * GIB },
    { name: "extra", sizeBytes: GIB },
  ],
};

export const wish: RestoreWish = {
  uid: "0b9c2f4e-1111-4222-8333-444455556666",
  namespace: "shop",
  name: "web",
  existing: "Fail",
  runStrategy: "Original",
  identity: {},
  disks: {},
  storageClassMapping: {},
};

export const emptyTarget: TargetFacts = {
  vm: null,
  vmi: null,
  pods: [],
  claims: [],
  storageClasses: [
    { name: "fast", isDefault: true },
    { name: "slow", isDefault: false },
  ],
  existing: new Set(["NetworkAttachmentDefinition/net/vlan7"]),
  sourceExists: false,
  hasCdi: true,
};
