import type { InstanceSpec, VirtualMachine, VirtualMachineInstance, VmVolume } from "./objects.ts";

/** An object to fetch and keep with a point. What is not there is noted and does not fail the backup. */
export interface Reference {
  readonly apiVersion: string;
  readonly kind: string;
  /** Null for a cluster's. */
  readonly namespace: string | null;
  readonly name: string;
}

/** Objects to fetch by label. */
export interface Selection {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly labelSelector: string;
}

export interface CapturePlan {
  readonly references: readonly Reference[];
  readonly selections: readonly Selection[];
}

/** KubeVirt's label of the claim that holds a machine's TPM and EFI state. */
export const stateLabel = "persistent-state-for";
/** Group versions that are captured and restored. */
export const versions = {
  kubevirt: "kubevirt.io/v1",
  cdi: "cdi.kubevirt.io/v1beta1",
  instancetype: "instancetype.kubevirt.io/v1beta1",
} as const;

/** Everything that a machine needs besides its disks' data to be made again. */
export function planCapture(vm: VirtualMachine, vmi: VirtualMachineInstance | null): CapturePlan {
  const { name = "", namespace = "" } = vm.metadata;
  const specs = [vm.spec?.template?.spec, vmi?.spec].filter((spec) => spec !== undefined);
  const found: readonly Reference[] = [
    reference(versions.kubevirt, "VirtualMachine", namespace, name),
    ...(vmi === null ? [] : [reference(versions.kubevirt, "VirtualMachineInstance", namespace, name)]),
    ...specs.flatMap((spec) => ofInstance(spec, namespace)),
    ...(vm.spec?.dataVolumeTemplates ?? []).flatMap(({ metadata }) => dataVolume(metadata.name ?? "", namespace)),
    ...flavors(vm, namespace),
    // Before KubeVirt 1.2 the claim had a fixed name and no label.
    reference("v1", "PersistentVolumeClaim", namespace, `${stateLabel}-${name}`),
  ];
  const references = [...new Map(found.filter((one) => one.name !== "").map((one) => [keyOf(one), one])).values()];
  return {
    references: references.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)),
    selections: [{ apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, labelSelector: `${stateLabel}=${name}` }],
  };
}

/** What a reference is known by. */
export function keyOf({ kind, namespace, name }: Pick<Reference, "kind" | "namespace" | "name">): string {
  return `${kind}/${namespace ?? ""}/${name}`;
}

function ofInstance({ volumes = [], networks = [], accessCredentials = [], domain }: InstanceSpec, namespace: string): Reference[] {
  const secrets = [
    ...accessCredentials.flatMap((one) => [one.sshPublicKey?.source?.secret?.secretName, one.userPassword?.source?.secret?.secretName]),
    domain?.firmware?.kernelBoot?.container?.imagePullSecret,
  ];
  return [
    ...volumes.flatMap((volume) => ofVolume(volume, namespace)),
    ...secrets.flatMap((name) => core("Secret", name, namespace)),
    ...networks.flatMap(({ multus }) => (multus === undefined ? [] : [attachment(multus.networkName, namespace)])),
  ];
}

/** A network's name may say another namespace. */
function attachment(name: string, namespace: string): Reference {
  const [first = "", second] = name.split("/");
  const [place, own] = second === undefined ? [namespace, first] : [first, second];
  return reference("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", place, own);
}

function ofVolume(volume: VmVolume, namespace: string): Reference[] {
  const claim = volume.persistentVolumeClaim ?? volume.ephemeral?.persistentVolumeClaim ?? volume.memoryDump;
  return [
    ...core("PersistentVolumeClaim", claim?.claimName, namespace),
    ...(volume.dataVolume === undefined ? [] : dataVolume(volume.dataVolume.name, namespace)),
    ...secretsOf(volume).flatMap((name) => core("Secret", name, namespace)),
    ...[volume.configMap?.name, volume.sysprep?.configMap?.name].flatMap((name) => core("ConfigMap", name, namespace)),
    ...core("ServiceAccount", volume.serviceAccount?.serviceAccountName, namespace),
  ];
}

function secretsOf({ secret, sysprep, containerDisk, cloudInitNoCloud, cloudInitConfigDrive }: VmVolume): (string | undefined)[] {
  const cloudInits = [cloudInitNoCloud, cloudInitConfigDrive].flatMap((one) => [one?.secretRef?.name, one?.networkDataSecretRef?.name]);
  return [secret?.secretName, sysprep?.secret?.name, containerDisk?.imagePullSecret, ...cloudInits];
}

/** CDI may have removed the DataVolume: its claim has the same name. */
function dataVolume(name: string, namespace: string): Reference[] {
  return [reference(versions.cdi, "DataVolume", namespace, name), reference("v1", "PersistentVolumeClaim", namespace, name)];
}

/** The revisions a machine was made with are enough to boot it; the objects they come from are kept for another cluster. */
function flavors({ spec, status }: VirtualMachine, namespace: string): Reference[] {
  return [
    ...flavor(spec?.instancetype, { kind: "Instancetype", revision: status?.instancetypeRef?.controllerRevisionRef?.name, namespace }),
    ...flavor(spec?.preference, { kind: "Preference", revision: status?.preferenceRef?.controllerRevisionRef?.name, namespace }),
  ];
}

function flavor(
  chosen: NonNullable<VirtualMachine["spec"]>["instancetype"],
  { kind, revision, namespace }: { readonly kind: string; readonly revision: string | undefined; readonly namespace: string },
): Reference[] {
  if (chosen === undefined) return [];
  const name = revision ?? chosen.revisionName;
  // The kind may be in any case; without one it is the cluster's.
  const isOwn = chosen.kind?.toLowerCase() === `virtualmachine${kind.toLowerCase()}`;
  const object = reference(
    versions.instancetype,
    `VirtualMachine${isOwn ? "" : "Cluster"}${kind}`,
    isOwn ? namespace : null,
    chosen.name ?? "",
  );
  return [object, ...(name === undefined ? [] : [reference("apps/v1", "ControllerRevision", namespace, name)])];
}

function core(kind: string, name: string | undefined, namespace: string): Reference[] {
  return name === undefined ? [] : [reference("v1", kind, namespace, name)];
}

function reference(apiVersion: string, kind: string, namespace: string | null, name: string): Reference {
  return { apiVersion, kind, namespace, name };
}
