import { constants } from "node:fs";
import { execFile } from "node:child_process";
import { open, readFile, stat } from "node:fs/promises";
import { promisify } from "node:util";

import { childEnvironment } from "../../lib/child-environment.ts";
import { RestoreError } from "../errors.ts";
import type { RestoreTarget } from "../target.ts";
import { guarded, RawTarget, tooSmall } from "./raw-file.ts";

const execute = promisify(execFile);

/**
 * A block device that nobody else has open exclusively. Its old content is overwritten; zeros take no room where the device can give it back, and are
 * written where it cannot. Rejects `target-in-use`, `target-too-small`.
 */
export async function blockDevice(path: string, size: number, signal: AbortSignal): Promise<RestoreTarget> {
  const has = await deviceSize(path);
  if (has < size) throw tooSmall(path, has, size);
  // O_EXCL on a block device is refused while it is mounted or held by another such opener.
  const file = await guarded(path, async () => await open(path, constants.O_RDWR | constants.O_EXCL));
  try {
    return new RawTarget(path, file, { blank: await punched(path, size, signal), parallelWrites: 8, rename: null });
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

/** Makes the range that is restored into read as zeros without room taken, all at once; false where the device cannot, and nothing was changed. */
async function punched(path: string, size: number, signal: AbortSignal): Promise<boolean> {
  try {
    await execute("fallocate", ["--punch-hole", "--offset", "0", "--length", String(size), path], { signal, env: childEnvironment() });
    return true;
  } catch {
    signal.throwIfAborted();
    return false;
  }
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
