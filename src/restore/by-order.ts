import { constants } from "node:fs";
import { type FileHandle, lstat, open, rm } from "node:fs/promises";
import { dirname } from "node:path";

import { type RestoreWork, rfc3339, type SucceededResult } from "../api/index.ts";
import { formatBytes } from "../lib/bytes.ts";
import { type PointRecord, readPoint, type Repository } from "../repository/index.ts";
import { RestoreError } from "./errors.ts";
import { type RestoreProgress, runRestore } from "./run-restore.ts";
import { guarded, syncPath } from "./targets/raw-file.ts";

/** The user and group that KubeVirt runs QEMU as. */
const QEMU_ID = 107;
const MODE = 0o660;

export interface RestoreJob {
  readonly repository: Repository;
  readonly work: RestoreWork;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: RestoreProgress) => void;
  readonly onStep: (step: string) => Promise<void>;
}

/**
 * Writes the disks of a point into volumes: a file on a file-system volume, made where missing, or a block volume's device. Files that were made for it
 * are removed again where it fails; what was overwritten is then neither old nor new.
 */
export async function restoreByOrder({ repository, work, signal, onProgress, onStep }: RestoreJob): Promise<SucceededResult> {
  const point = await readPoint(repository, work.point, signal);
  requireApart(work);
  const made: string[] = [];
  try {
    for (const target of work.disks) if (await makeReady(target, point)) made.push(target.path);
    const disks = await runRestore({
      repository,
      point,
      disks: work.disks.map(({ disk }) => disk),
      output: null,
      format: "raw",
      targets: new Map(work.disks.map(({ disk, path }) => [disk, path])),
      noFollow: true,
      force: false,
      signal,
      onProgress,
      onStep,
    });
    // The names of new files are to outlast a power cut as their content does.
    for (const path of made) await syncPath(dirname(path));
    const written = formatBytes(disks.reduce((sum, { writtenBytes }) => sum + writtenBytes, 0));
    const message = `Restored ${disks.length === 1 ? "1 disk" : `${disks.length} disks`} of ${point.vm.name} as of ${rfc3339(point.time)} (${point.id}); ${written} written`;
    return { version: 1, outcome: "Succeeded", message, warnings: [] };
  } catch (thrown) {
    await Promise.all(made.map(async (path) => await rm(path, { force: true })));
    throw thrown;
  }
}

type Target = RestoreWork["disks"][number];

function requireApart({ disks }: RestoreWork): void {
  for (const what of ["disk", "path"] as const) {
    const twice = disks.find((one, i) => disks.findIndex((other) => other[what] === one[what]) !== i);
    if (twice !== undefined) throw new RestoreError("invalid", `The work order names the ${what} ${twice[what]} twice`);
  }
}

/** Checks that a target is what its volume's mode says. @returns whether its file was made here */
async function makeReady({ disk, path, mode }: Target, point: PointRecord): Promise<boolean> {
  const found = await lstat(path).catch((thrown: unknown) => {
    if (thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT") return null;
    throw thrown;
  });
  if (mode === "Block") {
    if (found === null) throw new RestoreError("target-missing", `The block volume ${path} is not there`);
    if (!found.isBlockDevice()) throw new RestoreError("invalid", `${path} is no block device, though its volume is a block volume`);
    return false;
  }
  if (found === null) return await make(disk, path, point);
  if (found.isSymbolicLink())
    throw new RestoreError("invalid", `${path} is a symbolic link`, { hint: "Replace it by the file it leads to" });
  if (!found.isFile()) throw new RestoreError("invalid", `${path} is no file, though its volume has a file system`);
  return false;
}

async function make(disk: string, path: string, point: PointRecord): Promise<boolean> {
  const size = point.disks.find(({ name }) => name === disk)?.size;
  // Which disks there are is said by the restore itself, before anything is written.
  if (size === undefined) return false;
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await guarded(path, async () => await open(path, flags, MODE));
  try {
    await guarded(path, async () => await own(file, size));
    return true;
  } catch (thrown) {
    await rm(path, { force: true });
    throw thrown;
  } finally {
    await file.close();
  }
}

async function own(file: FileHandle, size: number): Promise<void> {
  if (process.getuid?.() === 0) await file.chown(QEMU_ID, QEMU_ID);
  // Whatever the umask is.
  await file.chmod(MODE);
  await file.truncate(size);
}
