import type { Logger } from "../lib/logger.ts";
import type { Repository } from "../repository/index.ts";
import type { BackupSource, Level } from "./backup-source.ts";
import { factsOfDomain, repoTag } from "./domain-facts.ts";
import { openImage } from "./image/open.ts";
import type { ImageSpec, ImageStep } from "./image/options.ts";
import type { LibvirtPullOptions, PullStep } from "./libvirt-pull/options.ts";
import { openDomain } from "./open-domain.ts";
import type { Standing } from "./run-backup.ts";

/** A machine to back up: what it is called in the repository, and how its disks are opened. */
export interface Machine {
  readonly name: string;
  readonly uuid: string | null;
  /** whose bases are looked for */
  readonly disks: readonly string[];
  readonly open: (standing: Standing, repository: Repository) => Promise<BackupSource>;
}

/** What both kinds of machine are given. */
export interface MachineOptions {
  readonly level: "auto" | Level;
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly onStep?: (step: PullStep | ImageStep) => void | Promise<void>;
}

export interface DomainMachineOptions
  extends MachineOptions, Omit<LibvirtPullOptions, keyof MachineOptions | "repoTag" | "bases" | "committed"> {
  /** name in the repository; default the domain's */
  readonly name?: string;
  /** see `DomainOptions` */
  readonly confined?: boolean;
}

/** A libvirt domain, running or not. Rejects as `factsOfDomain` does. */
export async function domainMachine({ name = "", ...options }: DomainMachineOptions): Promise<Machine> {
  const called = name === "" ? options.domain : name;
  return {
    name: called,
    ...(await factsOfDomain(options.uri, options.domain, options)),
    open: async ({ bases, committed }, repository) =>
      await openDomain({ ...options, repoTag: repoTag(repository, called), bases, committed }),
  };
}

export interface ImageMachineOptions extends MachineOptions {
  readonly name: string;
  readonly uuid: string | null;
  readonly images: readonly ImageSpec[];
  /** what makes two backups one and the same machine's */
  readonly key: string;
  /** the only directories that an image, and what lies below it, may be in */
  readonly within?: readonly string[];
}

/** Images that no machine has open. */
export function imageMachine({ uuid, ...options }: ImageMachineOptions): Machine {
  return {
    name: options.name,
    uuid,
    disks: options.images.map((image) => image.name),
    open: async ({ bases }) => await openImage({ ...options, bases }),
  };
}
