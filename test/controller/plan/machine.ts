import type { MachineFacts } from "../../../src/controller/plan/kubevirt/facts.ts";
import type {
  Claim,
  InstanceSpec,
  LauncherPod,
  VirtualMachine,
  VirtualMachineInstance,
  VmDisk,
  VmVolume,
  Volume,
} from "../../../src/controller/plan/kubevirt/objects.ts";

import { planSource, type SourceDecision } from "../../../src/controller/plan/kubevirt/source.ts";

/** A volume of a machine with its disk: a claim of its own where nothing else is said. */
export interface Part {
  readonly name: string;
  readonly disk?: Partial<VmDisk> | null;
  readonly volume?: Partial<VmVolume>;
  readonly claim?: Partial<NonNullable<Claim["spec"]>>;
  readonly annotations?: Record<string, string>;
  readonly pv?: Record<string, unknown>;
}

export function specOf(parts: readonly Part[]): InstanceSpec {
  return {
    domain: {
      devices: { disks: parts.flatMap(({ name, disk }) => (disk === null ? [] : [{ name, ...(disk ?? { disk: { bus: "virtio" } }) }])) },
    },
    volumes: parts.map(({ name, volume }) => ({ name, ...(volume ?? { persistentVolumeClaim: { claimName: `web-${name}` } }) })),
  };
}

/** The machine shop/web, running on node n1 with these volumes. */
export function running(parts: readonly Part[] = [{ name: "root" }], more: Partial<MachineFacts> = {}): MachineFacts {
  return { ...stopped(parts), vm: vmOf(parts, { runStrategy: "Always" }), vmi: vmiOf(parts), pods: [launcher()], ...more };
}

export function stopped(parts: readonly Part[] = [{ name: "root" }], more: Partial<MachineFacts> = {}): MachineFacts {
  return {
    namespace: "shop",
    name: "web",
    vm: vmOf(parts),
    vmi: null,
    pods: [],
    migrations: [],
    backups: [],
    trackers: [],
    claims: parts.map(claimOf),
    volumes: parts.map(volumeOf),
    ...more,
  };
}

export function vmOf(parts: readonly Part[], spec: object = { runStrategy: "Halted" }, more: Partial<VirtualMachine> = {}): VirtualMachine {
  return { metadata: { name: "web", namespace: "shop", uid: "vm-uid" }, spec: { template: { spec: specOf(parts) }, ...spec }, ...more };
}

export function vmiOf(parts: readonly Part[], status: VirtualMachineInstance["status"] = {}): VirtualMachineInstance {
  return {
    metadata: { name: "web", namespace: "shop", uid: "vmi-uid" },
    spec: specOf(parts),
    status: { phase: "Running", nodeName: "n1", runtimeUser: 107, conditions: [{ type: "AgentConnected", status: "True" }], ...status },
  };
}

export function launcher(more: Partial<LauncherPod["metadata"]> = {}, rest: Partial<LauncherPod> = {}): LauncherPod {
  return {
    metadata: {
      name: "virt-launcher-web-abcde",
      uid: "pod-uid",
      labels: { "kubevirt.io": "virt-launcher" },
      ownerReferences: [{ kind: "VirtualMachineInstance", name: "web", uid: "vmi-uid", controller: true }],
      ...more,
    },
    spec: { nodeName: "n1" },
    status: { phase: "Running", containerStatuses: [{ name: "compute", ready: true }] },
    ...rest,
  };
}

function claimOf({ name, claim, annotations }: Part): Claim {
  return {
    metadata: { name: `web-${name}`, uid: `claim-${name}`, ...(annotations === undefined ? {} : { annotations }) },
    spec: { volumeName: `pvc-${name}`, volumeMode: "Filesystem", accessModes: ["ReadWriteOnce"], storageClassName: "fast", ...claim },
    status: { phase: "Bound" },
  };
}

function volumeOf({ name, pv }: Part): Volume {
  return { metadata: { name: `pvc-${name}` }, spec: pv ?? { csi: { driver: "disk.example" } } };
}

export function plan(facts: MachineFacts, exclude: readonly string[] = []): SourceDecision {
  return planSource(facts, { exclude, kubeletRoot: "/var/lib/kubelet" });
}

/** A decision in a line. */
export function said(decision: SourceDecision): string {
  if (decision.kind === "ready") return [`ready ${decision.source.engine}`, ...decision.warnings].join("; ");
  return `${decision.kind} ${decision.reason}: ${decision.message}`;
}
