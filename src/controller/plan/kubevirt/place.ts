import type { Volume } from "./objects.ts";

/** In-tree sources that the kubelet handles through their CSI drivers: their volumes lie where CSI's do. */
const migrated = [
  "awsElasticBlockStore",
  "azureDisk",
  "azureFile",
  "cinder",
  "gcePersistentDisk",
  "portworxVolume",
  "vsphereVolume",
] as const;
const inTree: Readonly<Record<string, string>> = {
  local: "kubernetes.io~local-volume",
  nfs: "kubernetes.io~nfs",
  iscsi: "kubernetes.io~iscsi",
  fc: "kubernetes.io~fc",
  cephfs: "kubernetes.io~cephfs",
  rbd: "kubernetes.io~rbd",
  glusterfs: "kubernetes.io~glusterfs",
};

/**
 * Where the kubelet puts a PersistentVolume, below the directory of a pod that has it; absolute for one that stays where it is, null for a
 * kind that is not known.
 */
export function placeOf({ metadata, spec = {} }: Volume, mode: "Filesystem" | "Block"): string | null {
  // The kubelet mounts nothing for a hostPath: it is where it says.
  if (spec.hostPath !== undefined) return spec.hostPath.path;
  const plugin = pluginOf(spec);
  if (plugin === null) return null;
  if (mode === "Block") return `volumeDevices/${plugin}/${metadata.name}`;
  return `volumes/${plugin}/${metadata.name}${plugin === "kubernetes.io~csi" ? "/mount" : ""}`;
}

function pluginOf(spec: Readonly<Record<string, unknown>>): string | null {
  if (spec["csi"] !== undefined || migrated.some((source) => spec[source] !== undefined)) return "kubernetes.io~csi";
  const flex = spec["flexVolume"] as { readonly driver?: string } | undefined;
  if (flex?.driver !== undefined) return flex.driver.replaceAll("/", "~");
  const source = Object.keys(inTree).find((name) => spec[name] !== undefined);
  return source === undefined ? null : (inTree[source] ?? null);
}
