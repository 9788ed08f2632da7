import { type RestorePoint, type VirtualMachineBackup } from "../../api/index.ts";
import type { ControllerContext, Listers } from "../context.ts";
import type { BitmapFacts } from "../plan/kubevirt/bitmap-doubt.ts";

/** Index of restore points: by repository and machine. */
export const BY_MACHINE = "machine";
/** On a RestorePoint that this cluster made: what the bitmaps of its disks rested on. */
export const bitmapsAnnotation = "thinstream.dev/bitmaps";

/** The value of the index. A libvirt domain has no namespace. */
export function machineKey(repository: string, vm: { readonly name: string; readonly namespace?: string }): string {
  return `${repository} ${vm.namespace ?? ""}/${vm.name}`;
}

/** A machine's newest point in a repository, as the mirror has it. */
export function newestOf(
  { caches }: { readonly caches: Pick<Listers, "points"> },
  repository: string,
  vm: { readonly name: string; readonly namespace?: string },
): RestorePoint | null {
  const points = caches.points.lister.byIndex(BY_MACHINE, machineKey(repository, vm));
  return points.toSorted((a, b) => sequence(b) - sequence(a))[0] ?? null;
}

/** A point's number among its machine's: the last part of its id. */
export function sequence({ spec }: { readonly spec: Pick<RestorePoint["spec"], "pointId"> }): number {
  return Number(/-(\d+)$/.exec(spec.pointId)?.[1] ?? 0);
}

/** The newest point of the machine that a run backs up. */
export function newestOfRun(context: ControllerContext, { metadata, spec }: VirtualMachineBackup): RestorePoint | null {
  const vm = { name: spec.source.virtualMachine?.name ?? "", namespace: metadata.namespace ?? "" };
  return newestOf(context, spec.repositoryRef.name, vm);
}

/** What a point's bitmaps rested on; null where nobody kept it. */
export function bitmapsOf({ metadata }: RestorePoint): BitmapFacts | null {
  const kept = metadata.annotations?.[bitmapsAnnotation];
  if (kept === undefined) return null;
  try {
    return JSON.parse(kept) as BitmapFacts;
  } catch {
    return null;
  }
}
