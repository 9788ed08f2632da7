import type { DomainDescription, DomainDisk } from "../../libvirt/index.ts";
import type { Level } from "../backup-source.ts";
import type { BaseFacts } from "../base-facts.ts";
import { SourceError } from "../errors.ts";
import { holdsBitmaps, type ImageInfo } from "../qemu-img.ts";

/** What will be done with one disk. */
export interface DiskPlan {
  /** in the point */
  readonly name: string;
  /** in libvirt, e.g. `vda` */
  readonly target: string;
  readonly level: Level;
  readonly reason: string;
  /** What it stands on; null: everything is read. */
  readonly base: BaseFacts | null;
  /** Whether the new checkpoint, if one is made, tracks it. */
  readonly tracked: boolean;
  readonly imageInfo: unknown;
}

/** Which run of the machine a point was taken in; only within it is a bitmap beside a raw store known to have seen every write. */
export interface Instance {
  readonly boot: string;
  readonly id: number;
  /** ns */
  readonly cpuTime: number;
  /** Given by who follows the machine over migrations, which are no stop: another host, another QEMU, the same run. */
  readonly uid?: string;
}

export interface DiskSelection {
  readonly diskNames?: ReadonlyMap<string, string>;
  readonly disks?: readonly string[];
  readonly excludeDisks?: readonly string[];
}

/** The disks that can be backed up, and a sentence for each that was not asked to be left out but is. */
export function selectDisks(
  domain: DomainDescription,
  wanted: DiskSelection,
): { readonly disks: readonly DomainDisk[]; readonly warnings: readonly string[] } {
  const names = domain.disks.map((disk) => nameOf(disk, wanted.diskNames));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new SourceError("no-such-disk", `two disks of domain "${domain.name}" would be called ${twice} in the point`);
  const known = new Set([...names, ...domain.disks.map((disk) => disk.target)]);
  const unknown = [...(wanted.disks ?? []), ...(wanted.excludeDisks ?? [])].find((name) => !known.has(name));
  if (unknown !== undefined) {
    const hint = `its disks are ${names.join(", ") || "none"}`;
    throw new SourceError("no-such-disk", `domain "${domain.name}" has no disk ${unknown}`, { hint });
  }
  const isIn = (disk: DomainDisk, list: readonly string[]): boolean =>
    list.includes(nameOf(disk, wanted.diskNames)) || list.includes(disk.target);
  const asked = domain.disks.filter(
    (disk) => (wanted.disks === undefined || isIn(disk, wanted.disks)) && !isIn(disk, wanted.excludeDisks ?? []),
  );
  const warnings = asked.map(whyNot).filter((reason) => reason !== null && reason !== "");
  const disks = asked.filter((disk) => whyNot(disk) === null);
  if (disks.length === 0)
    throw new SourceError("no-disks", `domain "${domain.name}" has no disk to back up${warnings.map((text) => `; ${text}`).join("")}`);
  return { disks, warnings: warnings as string[] };
}

/** What a disk is called in the point. */
export function nameOf(disk: DomainDisk, diskNames: ReadonlyMap<string, string> | undefined): string {
  return diskNames?.get(disk.alias ?? "") ?? disk.target;
}

// Empty where there is nothing to tell: a drive without a medium.
function whyNot(disk: DomainDisk): string | null {
  const name = `disk ${disk.target}`;
  if (disk.device === "cdrom" || disk.device === "floppy")
    return disk.path === null && disk.volume === null ? "" : `${name} is a ${disk.device} and was left out`;
  if (disk.device === "lun") return `${name} passes SCSI commands through to the host and was left out: libvirt cannot back it up`;
  if (disk.readOnly) return `${name} is read-only and was left out`;
  if (!["file", "block", "volume"].includes(disk.type))
    return `${name} is of type ${disk.type}, which this engine does not read, and was left out`;
  return null;
}

/** What a plan is made from. */
export interface PlanInput {
  readonly level: "auto" | Level;
  readonly bases: readonly BaseFacts[];
  readonly instance: Instance;
  readonly diskNames?: ReadonlyMap<string, string> | undefined;
}

/** Decides level and base of one disk. `info` is null where qemu-img could not look at the image. */
export function planDisk(disk: DomainDisk, info: ImageInfo | null, input: PlanInput): DiskPlan {
  const barrier = bitmapBarrier(disk, info);
  const facts = disk.dataStore === null ? info : { ...info, thinstream: { instance: input.instance } };
  const name = nameOf(disk, input.diskNames);
  const plan = { name, target: disk.target, tracked: barrier === "", imageInfo: facts };
  if (input.level === "copy") return { ...plan, level: "copy", reason: "", base: null };
  if (input.level === "full") return { ...plan, level: "full", reason: barrier, base: null };
  const base = input.bases.find((one) => one.disk === name) ?? null;
  const reason = barrier === "" ? baseBarrier(disk, base, input.instance) : barrier;
  if (reason !== "") return { ...plan, level: "full", reason, base: null };
  return { ...plan, level: input.level === "differential" ? "differential" : "incremental", reason: "", base };
}

function bitmapBarrier(disk: DomainDisk, info: ImageInfo | null): string {
  if (disk.format !== "qcow2") return `a ${disk.format} image cannot keep track of changes, so everything is read and compared`;
  if (info !== null && !holdsBitmaps(info))
    return "a qcow2 version 2 image (compat=0.10) cannot keep track of changes, so everything is read and compared";
  return "";
}

function baseBarrier(disk: DomainDisk, base: BaseFacts | null, now: Instance): string {
  if (base === null) return "no earlier point tracks this disk's changes";
  if (disk.dataStore === null) return "";
  const then = (base.imageInfo as { readonly thinstream?: { readonly instance?: Instance } } | null)?.thinstream?.instance;
  if (then !== undefined && isSameRun(then, now)) return "";
  return "the machine was stopped since its last point, and its raw store may have been changed meanwhile without trace";
}

function isSameRun(then: Instance, now: Instance): boolean {
  if (then.uid !== undefined && now.uid !== undefined) return then.uid === now.uid;
  return then.boot === now.boot && then.id === now.id && then.cpuTime <= now.cpuTime;
}

/** The plan of a disk whose base turned out to be unusable. */
export function withoutBase(plan: DiskPlan, reason: string): DiskPlan {
  return { ...plan, level: "full", reason, base: null };
}
