import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A server process of this test, ended by `stop` (SIGTERM) or `kill` (SIGKILL). */
export interface Server {
  readonly socket: string;
  readonly process: ChildProcess;
  stop(): Promise<void>;
  kill(): void;
}

/** Starts qemu-nbd or nbdkit with `args` and waits until its socket is there. */
export async function serve(command: "qemu-nbd" | "nbdkit", socket: string, args: readonly string[]): Promise<Server> {
  const full = command === "qemu-nbd" ? ["--persistent", "-t", "-k", socket, ...args] : ["-f", "-U", socket, ...args];
  const child = spawn(command, full, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (text: Buffer) => (said += text.toString()));
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  for (let tries = 0; !existsSync(socket); tries += 1) {
    if (child.exitCode !== null || tries > 500) throw new Error(`${command} did not start: ${said}`);
    await sleep(20);
  }
  await sleep(20);
  return {
    socket,
    process: child,
    kill: () => void child.kill("SIGKILL"),
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

export function sh(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: "utf8", maxBuffer: 2 ** 30, stdio: ["ignore", "pipe", "pipe"] });
}
