import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";

/** Does `work` in a file system of so many MiB at a new directory; says so and does nothing where nothing can be mounted. */
export async function onSmallFileSystem(dir: string, mib: number, work: () => Promise<void>): Promise<void> {
  mkdirSync(dir, { recursive: true });
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${mib}m`, "none", dir], { encoding: "utf8" });
  if (mounted.status !== 0) {
    process.stderr.write(`skipped: nothing can be mounted here: ${mounted.stderr.trim()}\n`);
    return;
  }
  try {
    await work();
  } finally {
    execFileSync("umount", [dir]);
  }
}
