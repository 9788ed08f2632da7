import type { Condition, KubeObject } from "../node/index.ts";

/** What of a VirtualMachine this stand-in obeys; a test may set anything else. */
export interface VmObject extends KubeObject {
  readonly spec: {
    readonly runStrategy?: "Always" | "Halted" | "Manual" | "RerunOnFailure" | "Once";
    readonly running?: boolean;
    readonly template: VmTemplate;
  };
}

export interface VmTemplate {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>>; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: {
    readonly domain: {
      readonly firmware?: { readonly uuid?: string };
      readonly memory?: { readonly guest?: string };
      readonly devices: { readonly disks?: readonly VmDisk[] };
    };
    readonly nodeSelector?: Readonly<Record<string, string>>;
    readonly volumes?: readonly VmVolume[];
  };
}

export interface VmDisk {
  readonly name: string;
  readonly disk?: { readonly bus?: string };
}

export interface VmVolume {
  readonly name: string;
  readonly persistentVolumeClaim?: { readonly claimName: string };
  readonly dataVolume?: { readonly name: string };
}

export interface VmiObject extends KubeObject {
  readonly status?: {
    readonly phase?: string;
    readonly nodeName?: string;
    readonly conditions?: readonly Condition[];
    readonly fsFreezeStatus?: string;
  };
}

/** A disk of a machine that lies on a claim. */
export interface ClaimedDisk {
  readonly volume: string;
  readonly claim: string;
  readonly mode: "Filesystem" | "Block";
  readonly bus: string;
  /** bytes */
  readonly size: number;
  /** Of its PersistentVolume. */
  readonly volumeName: () => Promise<string>;
}

/** A template's annotation: the machine boots the lab's Linux guest, whatever is on its disks. Without, QEMU runs and no CPU does. */
export const GUEST_ANNOTATION = "lab.thinstream.dev/guest";
/** A template's annotation: volumes, parted by commas, whose image is made as qcow2 (which KubeVirt does not do; others do). */
export const QCOW2_ANNOTATION = "lab.thinstream.dev/qcow2";
/** A VM's label that KubeVirt's documentation uses for changed block tracking. */
export const CBT_LABEL = "changedBlockTracking";

export const KUBEVIRT = "/apis/kubevirt.io/v1";

export function vmPath({ metadata }: KubeObject): string {
  return `${KUBEVIRT}/namespaces/${metadata.namespace}/virtualmachines/${metadata.name}`;
}

export function vmiPath({ metadata }: KubeObject): string {
  return `${KUBEVIRT}/namespaces/${metadata.namespace}/virtualmachineinstances/${metadata.name}`;
}

export function ownedBy(kind: string, { metadata }: KubeObject): object {
  const apiVersion = "kubevirt.io/v1";
  return { apiVersion, kind, name: metadata.name, uid: metadata.uid, controller: true, blockOwnerDeletion: true };
}

export function tracksBlocks(vm: VmObject): boolean {
  return vm.metadata.labels?.[CBT_LABEL] === "true";
}

export function bootsGuest({ spec }: VmObject): boolean {
  return spec.template.metadata?.annotations?.[GUEST_ANNOTATION] === "true";
}

export function claimOf({ persistentVolumeClaim, dataVolume }: VmVolume): string | undefined {
  return persistentVolumeClaim?.claimName ?? dataVolume?.name;
}
