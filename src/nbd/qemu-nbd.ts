import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { childEnvironment } from "../lib/child-environment.ts";
import { NbdError } from "./errors.ts";

const START_MS = 30_000;
const LOOK_MS = 10;
const STDERR_CHARS = 4000;
const MISSING = /^setpriv: failed to execute qemu-nbd/m;

/** What a qemu-nbd of ours serves, and where. */
export interface QemuNbdOptions {
  /** absolute path, or `json:` and QEMU's description of the node */
  readonly image: string;
  readonly socket: string;
  /** More of qemu-nbd's own arguments: `--read-only`, `--format=qcow2`, … */
  readonly args: readonly string[];
  /** ms it may take to end when asked to; then it is killed. Default 5000. */
  readonly patience?: number;
  readonly signal: AbortSignal;
}

/** A qemu-nbd of this process, which ends with it, however it ends: nothing of ours keeps an image locked. */
export class QemuNbd {
  readonly socket: string;
  readonly #child: ChildProcess;
  readonly #patience: number;
  readonly #ended: Promise<void>;
  #said = "";
  #failure: Error | undefined;

  private constructor(child: ChildProcess, options: QemuNbdOptions) {
    this.socket = options.socket;
    this.#child = child;
    this.#patience = options.patience ?? 5000;
    child.stderr?.on("data", (bytes: Buffer) => (this.#said = (this.#said + bytes.toString()).slice(-STDERR_CHARS)));
    this.#ended = new Promise((resolve) => {
      // `close` and not `exit`: then its last words are in.
      child.once("close", () => resolve());
      child.once("error", (error) => {
        this.#failure = error;
        resolve();
      });
    });
  }

  /**
   * Starts it and waits until the image is open and connections are taken. Rejects `server-missing` where there is no qemu-nbd,
   * `server-failed` with qemu-nbd's own words, `timeout`, or the signal's reason; nothing runs then.
   */
  static async start(options: QemuNbdOptions): Promise<QemuNbd> {
    options.signal.throwIfAborted();
    const ready = `${options.socket}.pid`;
    const args = ["--persistent", "--shared=8", `--socket=${options.socket}`, `--pid-file=${ready}`, ...options.args, "--", options.image];
    // The kernel ends it when this process dies, even by SIGKILL.
    const child = spawn("setpriv", ["--pdeathsig", "TERM", "qemu-nbd", ...args], {
      stdio: ["ignore", "ignore", "pipe"],
      env: childEnvironment(),
    });
    const server = new QemuNbd(child, options);
    try {
      await server.#ready(ready, options);
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  // The socket is there before the image is open; the file with its process id comes after everything else.
  async #ready(file: string, { image, signal }: QemuNbdOptions): Promise<void> {
    for (let waited = 0; !existsSync(file); waited += LOOK_MS) {
      if (this.#over) await this.#ended;
      if (this.#over || this.#failure !== undefined) throw this.#startFailure();
      if (waited > START_MS) throw new NbdError("timeout", `qemu-nbd did not come up for ${image} within ${START_MS / 1000} s`);
      await sleep(LOOK_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }

  get #over(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  #startFailure(): NbdError {
    const cause = this.#failure;
    if (cause !== undefined) return new NbdError("server-missing", "setpriv (util-linux) is not on this machine", { cause });
    if (MISSING.test(this.#said)) {
      return new NbdError("server-missing", "qemu-nbd is not on this machine", { hint: "install qemu-utils" });
    }
    return new NbdError("server-failed", this.#words === "" ? `qemu-nbd ${this.epitaph ?? "failed"}` : this.#words);
  }

  /** What it wrote on standard error, as one line. */
  get #words(): string {
    const lines = this.#said.split("\n").map((line) => line.replace(/^qemu-nbd: /, "").trim());
    return lines.filter((line) => line !== "").join("; ");
  }

  /** How it came to end, to go on after "qemu-nbd": "was ended by SIGKILL"; null while it runs. */
  get epitaph(): string | null {
    if (!this.#over) return null;
    const how = this.#child.signalCode === null ? `ended with code ${this.#child.exitCode}` : `was ended by ${this.#child.signalCode}`;
    return this.#words === "" ? how : `${how}: ${this.#words}`;
  }

  /** Ends it the orderly way, so that what was written is complete, or by force when that takes too long; safe to call twice. */
  async stop(): Promise<void> {
    if (this.#child.pid === undefined) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), this.#patience);
    await this.#ended;
    clearTimeout(timer);
  }
}
