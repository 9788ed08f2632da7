import { constants } from "node:fs";
import { open, readFile, stat } from "node:fs/promises";

import { RestoreError } from "../errors.ts";
import type { RestoreTarget } from "../target.ts";
import { guarded, RawTarget, tooSmall } from "./raw-file.ts";

/** A block device that nobody else has open exclusively. Its old content is overwritten, zeros included. Rejects `target-in-use`, `target-too-small`. */
export async function blockDevice(path: string, size: number): Promise<RestoreTarget> {
  const has = await deviceSize(path);
  if (has < size) throw tooSmall(path, has, size);
  // O_EXCL on a block device is refused while it is mounted or held by another such opener.
  const file = await guarded(path, async () => await open(path, constants.O_RDWR | constants.O_EXCL));
  return new RawTarget(path, file, { blank: false, parallelWrites: 8, rename: null });
}

async function deviceSize(path: string): Promise<number> {
  const { rdev } = await guarded(path, async () => await stat(path));
  const [major, minor] = [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)];
  try {
    return Number((await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8")).trim()) * 512;
  } catch (cause) {
    throw new RestoreError("invalid", `The size of the block device ${path} cannot be told`, { cause });
  }
}
