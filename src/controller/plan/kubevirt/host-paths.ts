import type { BoundDisk } from "./disks.ts";

/** A directory or device of the node that an agent has. */
export interface HostMount {
  /** its name among the pod's volumes, at most 63 characters */
  readonly name: string;
  readonly hostPath: string;
  readonly mountPath: string;
  readonly type: "Directory" | "BlockDevice";
  readonly readOnly: boolean;
}

/** A volume, and where the kubelet has it. */
export type PlacedDisk = Pick<BoundDisk, "volume" | "mode" | "place">;

/** Where QEMU's directories are, the same inside the launcher and the agent. */
export const launcherDirectories = {
  runtime: "/var/run/libvirt",
  private: "/var/run/kubevirt-private",
  scratch: "/var/run/kubevirt-ephemeral-disks",
  qemu: "/var/run/kubevirt-private/libvirt/qemu",
} as const;

/** Where an agent has the volumes that a holder's pod mounts. */
export const holderVolumes = "/run/thinstream/volumes";

/** The mounts of a running machine's agent, as the table in docs/operator.md has them. */
export function launcherMounts(
  podDirectory: string,
  { disks, state }: { readonly disks: readonly BoundDisk[]; readonly state: LauncherState },
): readonly HostMount[] {
  // What is plugged in later lies in hp-volume pods, and QEMU alone reads it: over NBD it is there like the others.
  const attached = disks.filter(({ hotplugged }) => !hotplugged);
  return [
    emptyDir(podDirectory, "libvirt-runtime", launcherDirectories.runtime),
    emptyDir(podDirectory, "private", launcherDirectories.private),
    emptyDir(podDirectory, "ephemeral-disks", launcherDirectories.scratch),
    ...overlayMounts(podDirectory, state),
    ...attached.map((disk, index) => {
      const mountPath = disk.mode === "Block" ? `/dev/${disk.volume}` : `${launcherDirectories.private}/vmi-disks/${disk.volume}`;
      return volumeMount(podDirectory, disk, { index, mountPath, readOnly: true });
    }),
  ];
}

/** What of QEMU's own a launcher keeps apart from its other directories: libvirt's, and the overlays that track blocks. */
export interface LauncherState {
  readonly hasQemuDirectory: boolean;
  /** Where the kubelet puts the claim with the overlays; null where blocks are not tracked. */
  readonly place: string | null;
}

function overlayMounts(podDirectory: string, { hasQemuDirectory, place }: LauncherState): readonly HostMount[] {
  const { qemu } = launcherDirectories;
  const directory = hasQemuDirectory ? [emptyDir(podDirectory, "private-libvirt-qemu", qemu)] : [];
  if (place === null) return directory;
  const claim = place.startsWith("/") ? place : `${podDirectory}/${place}`;
  return [...directory, { name: "overlays", hostPath: `${claim}/cbt`, mountPath: `${qemu}/cbt`, type: "Directory", readOnly: true }];
}

/** The mounts of an agent that works on the volumes of a holder. */
export function holderMounts(podDirectory: string, disks: readonly PlacedDisk[], readOnly: boolean): readonly HostMount[] {
  return disks.map((disk, index) => volumeMount(podDirectory, disk, { index, mountPath: `${holderVolumes}/${disk.volume}`, readOnly }));
}

function volumeMount(
  podDirectory: string,
  { place, mode }: PlacedDisk,
  { index, mountPath, readOnly }: { readonly index: number; readonly mountPath: string; readonly readOnly: boolean },
): HostMount {
  const hostPath = place.startsWith("/") ? place : `${podDirectory}/${place}`;
  return { name: `disk-${index}`, hostPath, mountPath, type: mode === "Block" ? "BlockDevice" : "Directory", readOnly };
}

function emptyDir(podDirectory: string, name: string, mountPath: string): HostMount {
  return { name, hostPath: `${podDirectory}/volumes/kubernetes.io~empty-dir/${name}`, mountPath, type: "Directory", readOnly: false };
}
