import { spawn } from "node:child_process";
import { join } from "node:path";

const launcher = join(import.meta.dirname, "..", "..", "src", "cli", "thinstream.sh");

export interface Measured {
  readonly json: Record<string, unknown>;
  /** bytes, the most the process had resident */
  readonly peak: number;
  readonly seconds: number;
  /** seconds of CPU, user and system */
  readonly cpu: number;
}

/** Runs `thinstream` under GNU time: the launcher ends in an exec, so that what is measured is one process. @throws Error when it fails */
export async function measured(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Measured> {
  const child = spawn("/usr/bin/time", ["-f", "measured %M %e %U %S", "sh", launcher, ...args, "--json"], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const figures = /^measured (\d+) ([\d.]+) ([\d.]+) ([\d.]+)$/m.exec(stderr);
  if ((code !== 0 && code !== 3) || figures === null) throw new Error(`thinstream ${args.join(" ")} ended with ${code}: ${stderr}`);
  const [, kib, seconds, user, system] = figures;
  return {
    json: JSON.parse(stdout) as Record<string, unknown>,
    peak: Number(kib) * 1024,
    seconds: Number(seconds),
    cpu: Number(user) + Number(system),
  };
}
