import type { Logger } from "../../lib/logger.ts";
import type { Level } from "../backup-source.ts";
import type { BaseFacts } from "../base-facts.ts";
import type { Freezer, Quiesce } from "./freeze.ts";

/** What a backup through libvirt's pull job is asked for. */
export interface LibvirtPullOptions {
  readonly uri: string;
  readonly domain: string;
  /** Which run of the machine this is, where somebody follows it over migrations. */
  readonly instanceUid?: string;
  /** The domain is a pod's: firmware and kernel are of the pod's image, and their paths mean other files here, or none. */
  readonly confined?: boolean;
  /** `auto` and `incremental` do the best that is safe for each disk; `differential` and `copy` make no checkpoint. */
  readonly level: "auto" | Level;
  /** Names of disks in the point by libvirt's alias; default, and for a disk without one, the target. */
  readonly diskNames?: ReadonlyMap<string, string>;
  /** Only these disks, by their name in the point or target; default all. */
  readonly disks?: readonly string[];
  readonly excludeDisks?: readonly string[];
  readonly quiesce: Quiesce;
  /** Who freezes; default libvirt. */
  readonly freezer?: Freezer;
  /** Mount points to freeze; default all. */
  readonly freezeMountpoints?: readonly string[];
  /** seconds the guest agent may take; default 60 */
  readonly freezeTimeout?: number;
  /** Where the guest's overwritten blocks are kept during the job; default the runtime directory. */
  readonly scratchDir?: string;
  /** bytes that must stay free there; default 5 % of the file system, at least 64 MiB and at most 4 GiB */
  readonly scratchFloor?: number;
  /** Where the job's own directory goes; its path must be short. Default /var/tmp. */
  readonly runtimeDir?: string;
  /** Eight hex characters that name repository and machine: only checkpoints with them are ever touched. */
  readonly repoTag: string;
  /** What each disk may stand on. */
  readonly bases: readonly BaseFacts[];
  /** Checkpoints named by committed points beside those in `bases`; any other with our tag is a dead run's and goes. */
  readonly committed: readonly string[];
  /** NBD connections per disk; default 4 */
  readonly connections?: number;
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Called at every step of the protocol, for tests that kill there. */
  readonly onStep?: (step: PullStep) => void | Promise<void>;
}

/** The steps of the protocol, in order of a run that succeeds; `checkpoint-undone` only happens in one that does not. */
export type PullStep =
  | "connected"
  | "leftovers-cleared"
  | "directory-made"
  | "bases-defined"
  | "frozen"
  | "begun"
  | "thawed"
  | "exported"
  | "job-ended"
  | "checkpoint-deleted"
  | "checkpoint-undone"
  | "directory-removed";
