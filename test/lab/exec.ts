import { execFile } from "node:child_process";

/** Something the lab started ended badly; the message carries what it printed. */
export class LabError extends Error {
  override readonly name: string = "LabError";
}

/** Limits of one command: milliseconds (default 120 000), and a signal that ends it; and what it reads as standard input. */
export interface RunOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
}

/**
 * Runs one program to its end and gives its standard output as text.
 * @throws LabError with the program's own words when it exits other than 0, is killed, or does not exist.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { timeoutMs = 120_000, input, ...rest } = options;
  return new Promise((resolve, reject) => {
    const limits = { timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: 1 << 28 } as const;
    const child = execFile(command, [...args], { ...rest, ...limits }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new LabError(`${command} ${args.join(" ")}: ${stderr.trim() || stdout.trim() || error.message}`, { cause: error }));
    });
    if (input === undefined) return;
    child.stdin?.on("error", () => undefined); // it ended without reading, and says why itself
    child.stdin?.end(input);
  });
}
