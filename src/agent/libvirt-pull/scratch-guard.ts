import { statfs } from "node:fs/promises";
import { formatBytes } from "../../lib/bytes.ts";
import { errorText } from "../../lib/errors.ts";
import { SourceError } from "../errors.ts";

const EVERY_MS = 1000;
const MiB = 2 ** 20;

/** Free and least acceptable free bytes of a directory's file system. */
async function room(dir: string, floor: number | undefined): Promise<{ readonly free: number; readonly floor: number }> {
  const { bavail, blocks, bsize } = await statfs(dir);
  return { free: bavail * bsize, floor: floor ?? Math.min(Math.max(64 * MiB, 0.05 * blocks * bsize), 4096 * MiB) };
}

function noSpace(dir: string, free: number): SourceError {
  const hint = "free some space there, or choose another scratch directory";
  return new SourceError("no-space", `the scratch directory ${dir} has only ${formatBytes(free)} left`, { hint });
}

/** Rejects `no-space` where the scratch directory is too full to begin. */
export async function checkScratch(dir: string, floor: number | undefined): Promise<void> {
  const found = await room(dir, floor).catch((cause: unknown) => {
    throw new SourceError("no-space", `the scratch directory ${dir} cannot be used: ${errorText(cause)}`, { cause });
  });
  if (found.free < found.floor) throw noSpace(dir, found.free);
}

/** Watches the scratch directory; `onFull` is called once, when the guest's writes are about to have no room. Returns what ends the watch. */
export function watchScratch(dir: string, floor: number | undefined, onFull: (error: SourceError) => void): () => void {
  const look = async (): Promise<void> => {
    const found = await room(dir, floor).catch(() => null);
    if (found === null || found.free >= found.floor) return;
    clearInterval(timer);
    onFull(noSpace(dir, found.free));
  };
  const timer = setInterval(() => void look(), EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
}
