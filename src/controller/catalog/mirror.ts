import { labels, labelValue, type PointSummary, type RestorePoint, restorePointName, rfc3339 } from "../../api/index.ts";
import { type CallOptions, isKubeError, type KubeClient, type Manifest } from "../../kube/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { restorePoints } from "../kinds.ts";

const LEVELS = { full: "Full", incremental: "Incremental", differential: "Differential", copy: "Copy" } as const;
const CONSISTENCIES = { filesystem: "Filesystem", crash: "Crash", offline: "Offline" } as const;

/** Of a catalog's point what its mirror shows. */
export type MirroredPoint = Pick<PointSummary, "id" | "time" | "level" | "consistency" | "vm" | "held"> & {
  readonly disks: readonly { readonly name: string; readonly size: number }[];
};

/** A RestorePoint as it is made. */
export type MirrorManifest = Manifest & { readonly metadata: { readonly name: string; readonly namespace: string } };

/** A machine's name in the repository, taken apart: `<namespace>/<name>`, or a libvirt domain's name. */
export function machineOf(name: string): { readonly name: string; readonly namespace?: string } {
  const slash = name.indexOf("/");
  const namespace = name.slice(0, slash);
  return slash > 0 && /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace) ? { namespace, name: name.slice(slash + 1) } : { name };
}

/** Where and under what name a point is mirrored: the same whoever does it. @param homes namespaces that are there @param home where points go whose own is not */
export function mirrorRef(
  repository: string,
  { id, time, vm }: Pick<MirroredPoint, "id" | "time" | "vm">,
  { homes, home }: { readonly homes: { has(name: string): boolean }; readonly home: string },
): { name: string; namespace: string } {
  const machine = machineOf(vm.name);
  const namespace = machine.namespace !== undefined && homes.has(machine.namespace) ? machine.namespace : home;
  return { namespace, name: restorePointName(machine.name, new Date(time), { repository, pointId: id }) };
}

/** A point of the catalog as a RestorePoint. */
export function mirror(
  repository: string,
  point: MirroredPoint,
  ref: { readonly name: string; readonly namespace: string },
): MirrorManifest {
  const machine = machineOf(point.vm.name);
  const sizeBytes = point.disks.reduce((sum, { size }) => sum + size, 0);
  return {
    metadata: {
      ...ref,
      labels: { [labels.repository]: labelValue(repository), [labels.vm]: labelValue(machine.name) },
    },
    spec: {
      repositoryRef: { name: repository },
      pointId: point.id,
      vm: { ...machine, ...(point.vm.uid === null ? {} : { uid: point.vm.uid }) },
      time: rfc3339(point.time),
      level: LEVELS[point.level],
      consistency: CONSISTENCIES[point.consistency],
      disks: point.disks.map(({ name, size }) => ({ name, sizeBytes: size })),
      sizeBytes,
      size: formatBytes(sizeBytes),
      ...(point.held === true ? { hold: true } : {}),
    },
  };
}

/** Makes a point's mirror, once. Resolves with it, made now or before. */
export async function createMirror(
  client: KubeClient,
  manifest: MirrorManifest,
  { annotations, ...options }: CallOptions & { readonly annotations: Readonly<Record<string, string>> },
): Promise<RestorePoint> {
  const annotated = { ...manifest, metadata: { ...manifest.metadata, ...(Object.keys(annotations).length > 0 ? { annotations } : {}) } };
  try {
    return await client.create(restorePoints, annotated, options);
  } catch (thrown) {
    if (!isKubeError(thrown, "already-exists")) throw thrown;
    return await client.get(restorePoints, manifest.metadata, options);
  }
}
