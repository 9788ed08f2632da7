import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "./exec.ts";

const SCRIPT: string = join(import.meta.dirname, "server.sh");

/** What a server is: its command line, its environment, and the file its output goes to. */
export interface ServerSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly log: string;
}

/** A running server of the lab. It ends with this process in any case, however this process ends. */
export class Server {
  readonly name: string;
  readonly #log: string;
  readonly #child: ChildProcess;

  constructor({ name, command, args, env, log }: ServerSpec) {
    this.name = name;
    this.#log = log;
    const file = openSync(log, "a");
    this.#child = spawn("sh", [SCRIPT, command, ...args], { stdio: ["pipe", file, file], detached: true, env });
    closeSync(file);
    this.#child.on("error", () => undefined); // untilReady sees that it has no pid
    this.#child.stdin?.on("error", () => undefined);
    this.#child.unref();
    (this.#child.stdin as unknown as { unref?(): void } | null)?.unref?.();
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Waits until `ready` says true. @throws LabError with the end of the log when the server ends before, or three minutes have passed */
  async untilReady(ready: () => Promise<boolean>): Promise<void> {
    // Seconds at rest; a machine that is busy and has to read the program from a slow disk takes its time.
    const deadline = Date.now() + 180_000;
    while (Date.now() < deadline && this.running) {
      if (await ready()) return;
      await sleep(100);
    }
    throw new LabError(`${this.name} did not start: ${readFileSync(this.#log, "utf8").slice(-2000)}`);
  }

  /** Kills it; safe to call again. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.#child.ref();
    const ended = once(this.#child, "exit");
    this.#child.stdin?.destroy();
    await ended;
  }
}

/** A loopback port that nobody has at this moment. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}
