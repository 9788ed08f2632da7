import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError, run as runTool } from "../lab/index.ts";

/** What one run of a program took. The processor's time and the memory are of the program and what it waited for, by wait4. */
export interface Run {
  readonly seconds: number;
  readonly userSeconds: number;
  readonly systemSeconds: number;
  /** bytes, of the largest process */
  readonly maxRss: number;
  /** share of all processors that others kept busy right before, 0 to 1 */
  readonly busyBefore: number;
}

export interface Timed extends Run {
  readonly stdout: string;
}

export interface TimedOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** Runs a program under /usr/bin/time, as soon as the machine is quiet. @throws LabError when it exits other than 0, or 3 (warnings) */
export async function timed(command: string, args: readonly string[], options: TimedOptions = {}): Promise<Timed> {
  const report = join(tmpdir(), `bench-${process.pid}-${randomBytes(4).toString("hex")}`);
  const busyBefore = await quiet();
  const started = performance.now();
  const child = spawn("/usr/bin/time", ["-q", "-f", "%U %S %M", "-o", report, command, ...args], {
    ...options,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-4000)));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) => reject(new LabError(`/usr/bin/time cannot be started: ${cause.message}`, { cause })));
    child.once("close", resolve);
  });
  const seconds = (performance.now() - started) / 1000;
  if (code !== 0 && code !== 3) throw new LabError(`${command} ${args.join(" ")} ended with ${code}: ${stderr}${stdout.slice(-2000)}`);
  const [user = "", system = "", kibibytes = ""] = readFileSync(report, "utf8").trim().split(" ");
  rmSync(report);
  return { seconds, userSeconds: Number(user), systemSeconds: Number(system), maxRss: Number(kibibytes) * 1024, busyBefore, stdout };
}

const QUIET = 0.08;
const PATIENCE_MS = Number(process.env["BENCH_PATIENCE"] ?? "300") * 1000;

/** Waits until nobody else keeps the processors busy, for `BENCH_PATIENCE` seconds (300) at most. @returns the share that is busy, 0 to 1 */
export async function quiet(): Promise<number> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const before = jiffies();
    await sleep(1000);
    const after = jiffies();
    const busy = 1 - (after.idle - before.idle) / Math.max(1, after.all - before.all);
    if (busy <= QUIET || Date.now() > deadline) return busy;
  }
}

function jiffies(): { readonly all: number; readonly idle: number } {
  const [first = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const times = first.split(/\s+/).slice(1, 9).map(Number);
  return { all: times.reduce((sum, time) => sum + time, 0), idle: (times[3] ?? 0) + (times[4] ?? 0) };
}

/** One side of a comparison. */
export interface Contestant {
  readonly name: string;
  /** bytes that a run deals with: what throughput is reckoned from; 0 where only the time counts */
  readonly bytes: number;
  /** not measured */
  readonly prepare?: () => Promise<void>;
  readonly run: () => Promise<Run>;
  /** Checks what the run left, and removes it; not measured. */
  readonly after?: () => Promise<void>;
}

/** The runs of one contestant. */
export interface Series {
  readonly name: string;
  readonly bytes: number;
  readonly runs: readonly Run[];
}

/** One warm-up of each, then `runs` rounds in which each has its turn. */
export async function alternate(contestants: readonly Contestant[], runs: number): Promise<Series[]> {
  const all = contestants.map(({ name, bytes }) => ({ name, bytes, runs: [] as Run[] }));
  for (let round = 0; round <= runs; round++) {
    for (const [i, contestant] of contestants.entries()) {
      await contestant.prepare?.();
      await touchMemory(contestant.bytes);
      const { seconds, userSeconds, systemSeconds, maxRss, busyBefore } = await contestant.run();
      await contestant.after?.();
      if (round > 0) all[i]?.runs.push({ seconds, userSeconds, systemSeconds, maxRss, busyBefore });
      say(
        `${round === 0 ? "warm-up" : `${round}/${runs}`} ${contestant.name}: ${seconds.toFixed(2)} s, ${Math.round(maxRss / 2 ** 20)} MiB`,
      );
    }
  }
  return all;
}

const MEMORY_MIN = 2 ** 29;
const MEMORY_MAX = 6 * 2 ** 30;

/**
 * Takes as much memory as a run will want for what it writes, and gives it back. Where this machine is a virtual one, its host hands out memory at the first
 * touch, at a third of the speed of memory that is there: without this, the run that happens to touch it first pays for the others.
 */
async function touchMemory(bytes: number): Promise<void> {
  const available = Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? "0") * 1024;
  const length = Math.round(Math.min(MEMORY_MIN + 1.5 * bytes, available / 2, MEMORY_MAX));
  // `tail` keeps all of it until the end, as there might be more.
  await runTool("sh", ["-c", `head -c ${length} /dev/zero | tail -c ${length} > /dev/null`], { timeoutMs: 120_000 });
}

export function say(text: string): void {
  console.log(`[${new Date().toISOString().slice(11, 19)}] ${text}`);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >>> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/** Of the seconds. */
export function medianSeconds(series: Series): number {
  return median(series.runs.map((run) => run.seconds));
}
