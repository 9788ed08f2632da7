/** What runs beside the machine: engines that give its disks at one instant, and the run that stores them. */
export type { BackupSource, Capture, Consistency, Level, SourceDisk } from "./backup-source.ts";
export type { BaseFacts } from "./base-facts.ts";
export { type DomainFacts, factsOfDomain, repoTag } from "./domain-facts.ts";
export { SourceError, type SourceErrorCode } from "./errors.ts";
export { openImage } from "./image/open.ts";
export type { ImageOptions, ImageSpec, ImageStep } from "./image/options.ts";
export { openLibvirtPull } from "./libvirt-pull/open.ts";
export type { LibvirtPullOptions, PullStep } from "./libvirt-pull/options.ts";
export type { Freezer, FreezeReport, Frozen } from "./libvirt-pull/freeze.ts";
export { domainMachine, type DomainMachineOptions, imageMachine, type ImageMachineOptions, type Machine } from "./machine.ts";
export { openDomain } from "./open-domain.ts";
export {
  type BackupProgress,
  type BackupRequest,
  type BackupResult,
  type BackupStep,
  type DiskEstimate,
  runBackup,
  type Standing,
} from "./run-backup.ts";
export { OrderError, type OrderErrorCode } from "./orders/errors.ts";
export type { OrderRequest, RestoreJob } from "./orders/run-order.ts";

/** Loaded when an order is to be carried out: schemas and a server cost memory that a backup by hand has other uses for. */
export const orders = async (): Promise<typeof import("./orders/index.ts")> => await import("./orders/index.ts");
