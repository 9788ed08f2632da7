import { constants, open } from "node:fs/promises";
import { errorText } from "../../lib/errors.ts";
import { SourceError } from "../errors.ts";

/**
 * Keeps a block device from being mounted or taken into another device until the returned function is called. Rejects
 * `image-in-use` where it is already, `image-unusable`.
 */
export async function holdDevice(path: string): Promise<() => Promise<void>> {
  try {
    // Without O_CREAT, O_EXCL asks the kernel for a block device that nobody else holds so.
    const handle = await open(path, constants.O_RDONLY | constants.O_EXCL);
    return () => handle.close();
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "EBUSY") {
      const hint = "unmount it, or stop what uses it; a snapshot of it can be backed up";
      throw new SourceError("image-in-use", `the block device ${path} is in use: mounted, or part of another device`, { cause, hint });
    }
    throw new SourceError("image-unusable", `the block device ${path} cannot be read: ${errorText(cause)}`, { cause });
  }
}
