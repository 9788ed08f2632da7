import type { ResourceKind } from "../../kube/index.ts";
import { claims, type Loose, machines } from "../kinds.ts";

function kind(group: string, version: string, [name, plural]: readonly [string, string], namespaced: boolean = true): ResourceKind<Loose> {
  return { group, version, plural, kind: name, namespaced };
}

function flavor(name: string, plural: string): ResourceKind<Loose> {
  return kind("instancetype.kubevirt.io", "v1beta1", [name, plural], !name.includes("Cluster"));
}

const known: readonly ResourceKind<Loose>[] = [
  machines,
  claims,
  kind("kubevirt.io", "v1", ["VirtualMachineInstance", "virtualmachineinstances"]),
  kind("", "v1", ["Secret", "secrets"]),
  kind("", "v1", ["ConfigMap", "configmaps"]),
  kind("", "v1", ["ServiceAccount", "serviceaccounts"]),
  kind("apps", "v1", ["ControllerRevision", "controllerrevisions"]),
  kind("cdi.kubevirt.io", "v1beta1", ["DataVolume", "datavolumes"]),
  kind("k8s.cni.cncf.io", "v1", ["NetworkAttachmentDefinition", "network-attachment-definitions"]),
  flavor("VirtualMachineInstancetype", "virtualmachineinstancetypes"),
  flavor("VirtualMachineClusterInstancetype", "virtualmachineclusterinstancetypes"),
  flavor("VirtualMachinePreference", "virtualmachinepreferences"),
  flavor("VirtualMachineClusterPreference", "virtualmachineclusterpreferences"),
];

/** The kind of an object that is kept with a machine's points, by its name: each of these names is of one group only. */
export function objectKind(name: string): ResourceKind<Loose> {
  const found = known.find((one) => one.kind === name);
  if (found === undefined) throw new TypeError(`${name} is no kind that is captured or restored`);
  return found;
}
