import type { DiskContent } from "../repository/index.ts";

/**
 * The port between a virtual machine and the repository: which disks there are, what changed on them, and their bytes, all at one instant.
 * Engines (`libvirt-pull`, `image`) implement it; the core below never knows which one it reads from.
 *
 * Life: an engine's `open…` function freezes, begins and thaws; then extents and reads; then exactly one of `commit` or `abort`. Both end the
 * job, remove socket and scratch and release every handle; both are safe to call twice. After a kill the next run's `open…` cleans up.
 */
export interface BackupSource {
  readonly disks: readonly SourceDisk[];
  readonly consistency: Consistency;
  /** What the machine is, beside its disks; kept with the restore point. Names are `[a-z0-9.-]+`, e.g. `domain.xml`, `checkpoint.xml`, `nvram`. */
  readonly captures: readonly Capture[];
  /** Sentences a person should read: what was done less well than asked, and why. */
  readonly warnings: readonly string[];
  /** All was read and nothing is committed yet: rejects where it turns out not to be of one instant. Absent where that cannot be. */
  readonly requireStill?: () => Promise<void>;
  /** The restore point is in the store: superseded checkpoints go now. Resolves with further warnings. */
  commit(): Promise<readonly string[]>;
  /** The restore point is not in the store: what this run made in libvirt goes, what the last point stands on stays. Never rejects. */
  abort(): Promise<void>;
}

/** How the instant was taken: guest file systems frozen, running but not frozen, or the machine was not running. */
export type Consistency = "filesystem" | "crash" | "offline";

export type Level = "full" | "incremental" | "differential" | "copy";

export interface SourceDisk extends DiskContent {
  readonly level: Level;
  /** Why this level, in a sentence; empty when it is simply what was asked. */
  readonly reason: string;
  /** Point whose content `clean` extents have; null when no extent is reported clean. */
  readonly base: string | null;
  /** Checkpoint made at this instant that tracks changes from here on, if one was. */
  readonly checkpoint: string | null;
  /** Facts about the image to keep with the point (format, cluster size, …): the object of `qemu-img info --output=json` where there is one. */
  readonly imageInfo: unknown;
}

export interface Capture {
  readonly name: string;
  readonly bytes: Uint8Array;
}
