import type { InstanceSpec, VmDisk, VmVolume } from "./objects.ts";

/** Why a disk is no part of a backup. */
export type LeftOutReason = "Excluded" | "NotPersistent" | "ReadOnly" | "MemoryDump" | "NoDevice";
/** Why a disk cannot be backed up. */
export type UnsupportedReason = "HostDisk" | "Shareable" | "Lun" | "Virtiofs" | "UnknownVolume";

export interface LeftOut {
  readonly volume: string;
  readonly reason: LeftOutReason;
  readonly message: string;
}

/** How the guest sees a volume. */
export interface Devices {
  readonly device: VmDisk | undefined;
  /** as a virtiofs file system */
  readonly isShared: boolean;
}

export function devicesOf({ domain }: InstanceSpec, volume: VmVolume): Devices {
  const { disks = [], filesystems = [] } = domain?.devices ?? {};
  return { device: disks.find(({ name }) => name === volume.name), isShared: filesystems.some(({ name }) => name === volume.name) };
}

const notPersistent: readonly (keyof VmVolume)[] = [
  "containerDisk",
  "cloudInitNoCloud",
  "cloudInitConfigDrive",
  "configMap",
  "secret",
  "serviceAccount",
  "sysprep",
  "downwardAPI",
  "downwardMetrics",
];

export function leftOutOf(volume: VmVolume, { device, isShared }: Devices): LeftOut | null {
  const { name } = volume;
  if (notPersistent.some((kind) => volume[kind] !== undefined)) {
    return { volume: name, reason: "NotPersistent", message: `disk ${name} is made anew from its source at every start` };
  }
  if (volume.emptyDisk !== undefined || volume.ephemeral !== undefined) {
    return {
      volume: name,
      reason: "NotPersistent",
      message: `disk ${name} loses what is written to it when the machine stops, so it is not backed up`,
    };
  }
  if (volume.memoryDump !== undefined)
    return { volume: name, reason: "MemoryDump", message: `${name} holds a memory dump, which is no disk` };
  return volume.hostDisk !== undefined || isShared ? null : withoutWrites(volume, device);
}

function withoutWrites({ name, persistentVolumeClaim }: VmVolume, device: VmDisk | undefined): LeftOut | null {
  if (device === undefined) return { volume: name, reason: "NoDevice", message: `volume ${name} is no disk of the machine` };
  if (device.cdrom === undefined && persistentVolumeClaim?.readOnly !== true) return null;
  return { volume: name, reason: "ReadOnly", message: `disk ${name} is read-only (a CD-ROM or a read-only claim), so it is not backed up` };
}

export function unsupportedOf(volume: VmVolume, { device, isShared }: Devices): [UnsupportedReason, string] | null {
  if (volume.hostDisk !== undefined) return ["HostDisk", "is a file of its node (hostDisk), which is not backed up"];
  if (isShared) return ["Virtiofs", "is a shared file system (virtiofs), which no backup job of QEMU covers"];
  if (device?.lun !== undefined) return ["Lun", "is a SCSI device passed through (lun), which no backup job of QEMU covers"];
  if (device?.shareable === true)
    return ["Shareable", "is shared by several machines (shareable), so what one of them sees is no state of it"];
  if (volume.persistentVolumeClaim === undefined && volume.dataVolume === undefined) {
    return ["UnknownVolume", "is of a kind that Thinstream does not know"];
  }
  return null;
}
