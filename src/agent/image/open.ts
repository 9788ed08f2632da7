import type { BackupSource } from "../backup-source.ts";
import { json } from "../captures.ts";
import { clearDeadRuns, JobDir } from "../job-dir.ts";
import { lockMachine } from "../machine-lock.ts";
import type { ImageOptions } from "./options.ts";
import { ImageRun } from "./run.ts";

const RUNTIME_DIR = "/var/tmp";

/**
 * Takes images that no machine has open: files or block devices, through qemu-nbd. Persistent bitmaps are used where they are whole;
 * nothing is written to an image. Until the end no machine can start on them. Rejects with a `SourceError` (`running` where a machine
 * has an image open) or `NbdError`, or the signal's reason, and leaves nothing behind then.
 */
export async function openImage(options: ImageOptions): Promise<BackupSource> {
  const runtimeDir = options.runtimeDir ?? RUNTIME_DIR;
  const unlock = await lockMachine(options.key, options.name);
  let run: ImageRun;
  try {
    await clearDeadRuns(runtimeDir, options.key);
    await options.onStep?.("leftovers-cleared");
    options.signal.throwIfAborted();
    run = new ImageRun(options, unlock, await JobDir.make({ runtimeDir, scratchDir: undefined }, options.key, null));
  } catch (error) {
    await unlock();
    throw error;
  }
  try {
    await options.onStep?.("directory-made");
    const opened = await Promise.allSettled(options.images.map((image, index) => run.export(image, index)));
    const failed = opened.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    const disks = opened.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    await options.onStep?.("exported");
    const captures = [...(options.captures ?? []), json("tool.json", { engine: "image" })];
    const requireStill = async (): Promise<void> => await run.requireStill();
    const ends = { requireStill, commit: () => run.commit(), abort: () => run.abort() };
    return { disks, consistency: "offline", captures, warnings: [...(options.warnings ?? []), ...run.warnings], ...ends };
  } catch (error) {
    await run.abort();
    throw error;
  }
}
