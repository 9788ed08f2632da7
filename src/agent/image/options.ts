import type { Logger } from "../../lib/logger.ts";
import type { Capture, Level } from "../backup-source.ts";
import type { BaseFacts } from "../base-facts.ts";

/** An image file or block device that no machine has open. */
export interface ImageSpec {
  /** The disk's name in the point, e.g. `vda`. */
  readonly name: string;
  readonly path: string;
  /**
   * Default: raw for a block device, else what qemu-img takes the file for (qcow2 or raw). Say it for a raw image whose guest is not
   * trusted: by its first bytes it could pass for a qcow2 that has any file of this host as its backing file.
   */
  readonly format?: string;
}

/** What a backup of images without a running machine is asked for. */
export interface ImageOptions {
  readonly images: readonly ImageSpec[];
  /**
   * The only directories that the images, and what lies below them, may be in: for images that a guest's owner can put a symbolic link or a
   * backing file of his choice in the place of. Default: anywhere.
   */
  readonly within?: readonly string[];
  /** What makes two backups one and the same machine's, e.g. its UUID or the image's path. */
  readonly key: string;
  /** The machine's name, for messages. */
  readonly name: string;
  readonly level: "auto" | Level;
  /** What each disk may stand on. */
  readonly bases: readonly BaseFacts[];
  /** What is known of the machine beside its disks. */
  readonly captures?: readonly Capture[];
  readonly warnings?: readonly string[];
  /** Where the run's own directory goes; its path must be short. Default /var/tmp. */
  readonly runtimeDir?: string;
  /** NBD connections per disk; default 4 */
  readonly connections?: number;
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Called at every step, for tests that kill there. */
  readonly onStep?: (step: ImageStep) => void | Promise<void>;
}

/** The steps, in order. */
export type ImageStep = "leftovers-cleared" | "directory-made" | "exported" | "servers-ended" | "directory-removed";
