import { constants } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";

import { errorText } from "../lib/errors.ts";
import { type DamagedRange, ImageReader, isLoss, type PointDisk, type PointRecord, type Repository } from "../repository/index.ts";
import { RestoreError } from "./errors.ts";
import type { RestoreTarget } from "./target.ts";
import { blockDevice } from "./targets/block-device.ts";
import { newQcow2File } from "./targets/qcow2-file.ts";
import { existingRawFile, guarded, newRawFile } from "./targets/raw-file.ts";

export type ImageFormat = "raw" | "qcow2";

export interface RestoreRequest {
  readonly repository: Repository;
  readonly point: PointRecord;
  /** names; empty: all of the point's */
  readonly disks: readonly string[];
  /** directory for disks without a target of their own; made where missing */
  readonly output: string | null;
  readonly format: ImageFormat;
  /** existing file or block device by disk name */
  readonly targets: ReadonlyMap<string, string>;
  /** refuse a target file that is a symbolic link: whoever owns its volume could lead the restore anywhere; default follow */
  readonly noFollow?: boolean;
  /** restore what is whole of a damaged point, and report the rest */
  readonly force: boolean;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: RestoreProgress) => void;
  /** for tests that end a restore where it is not done: awaited after each disk that is written, before any is said to be */
  readonly onStep?: (step: "disk-written") => Promise<void>;
}

export interface RestoreProgress {
  /** bytes of the disks' size */
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly writtenBytes: number;
}

export interface RestoredDisk {
  readonly name: string;
  readonly path: string;
  readonly format: ImageFormat;
  readonly size: number;
  readonly writtenBytes: number;
  readonly damaged: readonly DamagedRange[];
}

/** Writes the disks of a point out. Either all of them are there, complete and durable, or those that were begun are removed again. */
export async function runRestore(request: RestoreRequest): Promise<RestoredDisk[]> {
  const { repository, output } = request;
  const disks = chooseDisks(request);
  await requireApart(request.targets);
  if (output !== null) await guarded(output, async () => await mkdir(output, { recursive: true }));
  const reader = new ImageReader(repository);
  const targets: RestoreTarget[] = [];
  try {
    for (const disk of disks) targets.push(await openTarget(disk, request));
    const restored: RestoredDisk[] = [];
    const progress = new Progress(disks, request);
    for (const [i, disk] of disks.entries()) {
      restored.push(await copyDisk(reader, { disk, target: targets[i] as RestoreTarget, request, progress }));
      await request.onStep?.("disk-written");
    }
    for (const target of targets) await target.finish();
    return restored;
  } catch (thrown) {
    await Promise.all(targets.map(async (target) => await target.discard()));
    throw isLoss(thrown) ? pointDamaged(request.point, thrown) : thrown;
  } finally {
    await reader.close();
  }
}

function pointDamaged(point: PointRecord, cause: unknown): RestoreError {
  return new RestoreError("damaged", `The restore point ${point.id} is damaged: ${errorText(cause)}`, {
    cause,
    hint: "`thinstream check` lists all damage and the points it touches; --force restores what is whole",
  });
}

interface DiskJob {
  readonly disk: PointDisk;
  readonly target: RestoreTarget;
  readonly request: RestoreRequest;
  readonly progress: Progress;
}

async function copyDisk(reader: ImageReader, { disk, target, request, progress }: DiskJob): Promise<RestoredDisk> {
  const damagedRanges: DamagedRange[] = [];
  let writtenBytes = 0;
  await reader.copy(disk, target, {
    signal: request.signal,
    ...(request.force ? { onDamage: (range: DamagedRange): void => void damagedRanges.push(range) } : {}),
    onProgress: (now) => {
      writtenBytes = now.writtenBytes;
      progress.set(disk.name, now.position, now.writtenBytes);
    },
  });
  const format = request.targets.has(disk.name) ? "raw" : request.format;
  return {
    name: disk.name,
    path: target.path,
    format,
    size: disk.size,
    writtenBytes,
    damaged: damagedRanges.toSorted((a, b) => a.offset - b.offset),
  };
}

class Progress {
  readonly #total: number;
  readonly #request: RestoreRequest;
  readonly #disks = new Map<string, { readonly position: number; readonly written: number }>();

  constructor(disks: readonly PointDisk[], request: RestoreRequest) {
    this.#total = disks.reduce((sum, { size }) => sum + size, 0);
    this.#request = request;
  }

  set(disk: string, position: number, written: number): void {
    this.#disks.set(disk, { position, written });
    const all = [...this.#disks.values()];
    const sum = (what: "position" | "written"): number => all.reduce((total, one) => total + one[what], 0);
    this.#request.onProgress?.({ totalBytes: this.#total, doneBytes: sum("position"), writtenBytes: sum("written") });
  }
}

function chooseDisks({ point, disks, targets, output }: RestoreRequest): PointDisk[] {
  const unknown = [...disks, ...targets.keys()].find((name) => !point.disks.some((disk) => disk.name === name));
  if (unknown !== undefined) {
    throw new RestoreError("invalid", `The restore point ${point.id} has no disk ${unknown}`, {
      hint: `It has ${point.disks.map(({ name }) => name).join(", ")}`,
    });
  }
  const names = disks.length > 0 ? disks : output === null ? [...targets.keys()] : point.disks.map(({ name }) => name);
  const chosen = point.disks.filter(({ name }) => names.includes(name) || targets.has(name));
  const homeless = chosen.find(({ name }) => output === null && !targets.has(name));
  if (homeless !== undefined)
    throw new RestoreError("invalid", `There is no place for the disk ${homeless.name}`, {
      hint: "Give --output DIR, or --target for every disk",
    });
  return chosen;
}

/** Two disks in one place would both be written, one over the other. */
async function requireApart(targets: RestoreRequest["targets"]): Promise<void> {
  const taken = new Map<string, string>();
  for (const [disk, path] of targets) {
    const { dev, ino } = await guarded(path, async () => await stat(path));
    const other = taken.get(`${dev}/${ino}`);
    if (other !== undefined) throw new RestoreError("invalid", `${path} is the target of the disk ${other} too`);
    taken.set(`${dev}/${ino}`, disk);
  }
}

async function openTarget(disk: PointDisk, request: RestoreRequest): Promise<RestoreTarget> {
  const given = request.targets.get(disk.name);
  if (given !== undefined) {
    const found = await guarded(given, async () => await stat(given));
    if (found.isBlockDevice()) return await blockDevice(given, disk.size, request.signal);
    if (found.isFile()) return await existingRawFile(given, disk.size, request.noFollow === true ? constants.O_NOFOLLOW : 0);
    throw new RestoreError("invalid", `${given} is neither a file nor a block device`);
  }
  const name = `${disk.name}.${request.format}`;
  // Who may write to the repository says what disks are called, and is not to choose the directory.
  if (basename(name) !== name)
    throw new RestoreError("invalid", `The disk ${disk.name} has a name that no file can have`, {
      hint: "Restore it with --target DISK=PATH",
    });
  const path = join(request.output ?? "", name);
  return request.format === "raw" ? await newRawFile(path, disk.size) : await newQcow2File(path, disk, request.signal);
}
