// What the steps of the set-up share: running programs, saying what happens, locks, and building in a temporary place.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout, and this checkout's own cache. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
export const localCache = join(root, ".cache");

/** What is slow to make is kept once for the machine, named by a hash of what it is made from. */
export const machineCache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "thinstream");

/** A step that cannot be done; the message is the reason, in one line. */
export class CannotDo extends Error {}

export function say(tier, text) {
  process.stderr.write(`setup: ${tier}: ${text}\n`);
}

export function has(program) {
  return spawnSync("sh", ["-c", 'command -v -- "$1"', "sh", program], { stdio: "ignore" }).status === 0;
}

export function outputOf(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 26, env: { ...process.env, LC_ALL: "C" } });
  return status === 0 ? stdout : "";
}

/**
 * Runs a program with its output in .cache/lab/<tier>.log, and says every 15 seconds that it still runs.
 * Throws CannotDo with the last lines of its output.
 */
export async function run({ tier, what }, command, args, options = {}) {
  const log = join(localCache, "lab", `${tier}.log`);
  mkdirSync(dirname(log), { recursive: true });
  writeFileSync(log, "");
  const file = openSync(log, "a");
  const began = Date.now();
  say(tier, what);
  const timer = setInterval(() => say(tier, `${what} (${Math.round((Date.now() - began) / 1000)} s)`), 15_000);
  try {
    const code = await new Promise((resolve) => {
      const child = spawn(command, args, { ...options, stdio: ["ignore", file, file] });
      child.on("error", () => resolve(127));
      child.on("close", resolve);
    });
    if (code !== 0) throw new CannotDo(`${what} failed (exit ${code}): ${lastLines(log)} [all of it in ${log}]`);
  } finally {
    clearInterval(timer);
    closeSync(file);
  }
}

function lastLines(log) {
  const lines = readFileSync(log, "utf8").trim().split("\n");
  return lines.slice(-3).join(" | ").slice(-500);
}

export function hashOf(...parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex").slice(0, 16);
}

/**
 * Holds `<machine cache>/<name>.lock` while `work` runs, so that two clones do not build the same thing at once.
 * The kernel's lock, held by a child that ends with this process: nothing stale can remain.
 */
export async function withLock(name, work) {
  mkdirSync(machineCache, { recursive: true });
  if (!has("flock")) throw new CannotDo("flock (package util-linux) is not on PATH");
  const file = join(machineCache, `${name}.lock`);
  const holder = spawn("flock", [file, "sh", "-c", "echo held; exec cat >/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
    detached: true,
  });
  const ended = once(holder, "close");
  const timer = setTimeout(() => say(name, "another set-up on this machine makes it: waiting"), 2000);
  try {
    const [held] = await Promise.race([once(holder.stdout, "data"), ended]);
    if (!String(held).startsWith("held")) throw new CannotDo(`${file} cannot be locked (flock ended with ${held})`);
    clearTimeout(timer);
    return await work();
  } finally {
    clearTimeout(timer);
    holder.stdin.destroy();
    await ended;
  }
}

/** A command that is killed when the set-up is, instead of going on behind the back of the next one. */
export function mortal(command, args) {
  return has("setpriv") ? ["setpriv", ["--pdeathsig", "KILL", "--", command, ...args]] : [command, args];
}

/**
 * Gives `<machine cache>/<name>-<hash>`, made by `build(temporary directory)` when it is not there yet.
 * An interrupted build leaves only a temporary directory, which the next one removes.
 */
export async function cached(name, hash, build) {
  return withLock(name, async () => {
    const ready = join(machineCache, `${name}-${hash}`);
    if (existsSync(ready)) return ready;
    removeHalfMade(name);
    const building = join(machineCache, `${name}.building-${process.pid}`);
    mkdirSync(building, { recursive: true });
    await build(building);
    renameSync(building, ready);
    return ready;
  });
}

function removeHalfMade(name) {
  for (const entry of readdirSync(machineCache).filter((other) => other.startsWith(`${name}.building-`))) {
    rmSync(join(machineCache, entry), { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
