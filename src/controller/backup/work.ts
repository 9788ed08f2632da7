import { type BackupWork, type BackupWorkSource, durationMs, type VirtualMachineBackup } from "../../api/index.ts";
import type { ImageSource, LibvirtSource } from "../plan/kubevirt/source.ts";

/** Where a node's own libvirt keeps what a job needs, under the same names inside the agent. */
export const nodeDirectories = { runtime: "/var/tmp", sockets: "/var/run/libvirt", images: "/var/lib/libvirt" } as const;

const COMPRESSIONS = { LZ4: "lz4", Zstd: "zstd", None: "none" } as const;
const LEVELS = { Auto: "auto", Full: "full", Copy: "copy" } as const;

/** What is known of the machine when its work order is written. */
export interface Known {
  /** name in the repository */
  readonly vm: { readonly name: string; readonly uid: string | null };
  readonly source: BackupWorkSource;
  readonly freezeBy: "libvirt" | "controller" | "none";
  /** everything is read, and compared: the bitmaps are not to be believed */
  readonly doubted: boolean;
  /** The disks that were found to belong to the backup; null: all that the agent finds, without those the run leaves out. */
  readonly disks: readonly string[] | null;
  readonly captures: BackupWork["captures"];
}

/** A run's work, as its agent is told. */
export function backupWork({ spec }: VirtualMachineBackup, { vm, source, freezeBy, doubted, disks, captures }: Known): BackupWork {
  const asked = LEVELS[spec.level];
  return {
    type: "backup",
    domain: null,
    vm,
    level: asked === "auto" && doubted ? "full" : asked,
    excludeDisks: disks === null ? [...(spec.disks.exclude ?? [])] : [],
    disks: disks === null ? null : [...disks],
    compression: COMPRESSIONS[spec.compression],
    source,
    freeze: {
      // Where nobody could freeze it, Required still has to fail, and Auto not to wait.
      mode: freezeBy === "none" && spec.consistency.mode === "Auto" ? "Never" : spec.consistency.mode,
      by: freezeBy === "libvirt" ? "libvirt" : "controller",
      timeoutSeconds: Math.max(1, Math.round(durationMs(spec.consistency.freezeTimeout) / 1000)),
    },
    captures,
  };
}

export function launcherSource(
  { uri, domain, instanceUid, runtimeDir, scratchDir, diskNames }: LibvirtSource,
  scratch: string | undefined,
): BackupWorkSource {
  return { engine: "libvirt", uri, domain, instanceUid, runtimeDir, scratchDir: scratch ?? scratchDir, diskNames: { ...diskNames } };
}

export function holderSource({ images }: ImageSource): BackupWorkSource {
  return { engine: "image", images: images.map((image) => ({ ...image })) };
}

export function domainSource(
  { uri, domain }: { readonly uri: string; readonly domain: string },
  scratch: string | undefined,
): BackupWorkSource {
  const runtimeDir = nodeDirectories.runtime;
  return { engine: "libvirt", uri, domain, instanceUid: null, runtimeDir, scratchDir: scratch ?? runtimeDir, diskNames: {} };
}
