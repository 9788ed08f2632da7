import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";

const PREFIX = "tsl-";
const ROOM_NEEDED = 4 * 2 ** 30;
const mine = new Set<string>();

/** Where lab directories go: `THINSTREAM_LAB_DIR`, else a tmpfs with room to spare, else /var/tmp. */
export function labBase(): string {
  const chosen = process.env["THINSTREAM_LAB_DIR"];
  if (chosen !== undefined && chosen !== "") return chosen;
  if (!existsSync("/dev/shm")) return "/var/tmp";
  const { bavail, bsize } = statfsSync("/dev/shm");
  return bavail * bsize >= ROOM_NEEDED ? "/dev/shm" : "/var/tmp";
}

/**
 * A new directory with a short path (unix socket addresses end at 107 bytes), removed when this process ends.
 * What a killed process left behind is removed by the next one.
 */
export function tempDir(prefix: string = "t"): string {
  const base = labBase();
  if (mine.size === 0) {
    process.on("exit", removeMine);
    // vitest ends its workers by a signal, which no exit event follows. Who handles the signal too decides what becomes of the process.
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      process.once(signal, () => {
        removeMine();
        if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
      });
    }
    removeStale(base);
  }
  const dir = join(base, `${PREFIX}${process.pid}-${prefix}-${randomBytes(3).toString("hex")}`);
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  mine.add(dir);
  return dir;
}

function removeMine(): void {
  for (const dir of mine) removeDir(dir);
}

/** Ends the libvirt lab of a directory, if one still runs there, and removes the directory. */
function removeDir(dir: string): void {
  endByPidFile(dir);
  try {
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
  } catch (cause) {
    process.emitWarning(`${dir} could not be removed: ${String(cause)}`);
  }
}

function removeStale(base: string): void {
  if (!existsSync(base)) return;
  for (const entry of readdirSync(base)) {
    const owner = /^tsl-(\d+)-/.exec(entry)?.[1];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) removeDir(join(base, entry));
  }
}

/** Kills the process named by `<dir>/lab.pid`, only if its command line names this very directory. */
function endByPidFile(dir: string): void {
  try {
    const pid = Number(readFileSync(join(dir, "lab.pid"), "utf8"));
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, "utf8");
    if (pid > 1 && commandLine.split("\0").includes(dir)) process.kill(pid, "SIGKILL");
  } catch {
    return; // no pid file, or the process is gone: nothing to end
  }
}
