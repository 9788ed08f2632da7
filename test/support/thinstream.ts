import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";

const launcher = join(import.meta.dirname, "..", "..", "src", "cli", "thinstream.sh");

/** What a finished command line left. */
export interface CliResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** seconds */
  readonly seconds: number;
}

export interface CliOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** handed the process as soon as it runs, for signals */
  readonly onStart?: (child: ChildProcess) => void;
}

/** Runs `thinstream` of this checkout as a user would. Never rejects: exit codes are results. */
export async function thinstream(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const started = performance.now();
  const child = spawn("sh", [launcher, ...args], {
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
    stdio: ["ignore", "pipe", "pipe"],
  });
  options.onStart?.(child);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return await new Promise((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr, seconds: (performance.now() - started) / 1000 })),
  );
}

/** The one JSON document of a command that must succeed (exit 0, or 3: with warnings). */
export async function thinstreamJson<T>(args: readonly string[], options: CliOptions = {}): Promise<T> {
  const result = await thinstream([...args, "--json"], options);
  if (result.code !== 0 && result.code !== 3)
    throw new Error(`thinstream ${args.join(" ")} ended with ${result.code ?? result.signal}: ${result.stderr}${result.stdout}`);
  return JSON.parse(result.stdout) as T;
}

/** What `backup --json` says. */
export interface BackupJson {
  readonly point: string;
  readonly level: string;
  readonly consistency: string;
  readonly warnings: readonly string[];
  readonly disks: readonly {
    readonly name: string;
    readonly level: string;
    readonly reason: string;
    readonly dirtyBytes: number;
    readonly zeroBytes: number;
    readonly readBytes: number;
    readonly newBytes: number;
    readonly compactedBytes: number;
    readonly uploadedBytes: number;
    readonly mapBytes: number;
  }[];
}

/** What `restore --json` says. */
export interface RestoreJson {
  readonly point: string;
  readonly disks: readonly {
    readonly name: string;
    readonly path: string;
    readonly format: string;
    readonly size: number;
    readonly writtenBytes: number;
  }[];
  readonly domain: { readonly name: string; readonly uuid: string } | null;
}
