import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "./exec.ts";

/** The root shell on the guest's serial line. One command at a time. */
export class GuestConsole {
  readonly #socket: Socket;
  #seen: string = "";
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      this.#seen += text;
      this.#wake();
    });
    socket.on("close", () => this.#wake());
    socket.on("error", () => undefined); // the close event follows, and the waiter sees it
  }

  /** Connects to the serial socket and waits for the shell, `timeoutMs` at most. @throws LabError with what the guest printed */
  static async connect(path: string, timeoutMs: number = 120_000): Promise<GuestConsole> {
    const console = new GuestConsole(createConnection(path));
    try {
      await console.#bootDone(Date.now() + timeoutMs);
    } catch (cause) {
      console.close();
      throw cause;
    }
    return console;
  }

  async #bootDone(deadline: number): Promise<void> {
    while (!this.#seen.includes("guest: shell")) await this.#more(deadline);
  }

  /** Waits for more output. */
  async #more(deadline: number): Promise<void> {
    const left = deadline - Date.now();
    if (left <= 0 || this.#socket.destroyed) {
      throw new LabError(`guest console ${left <= 0 ? "timed out" : "closed"}; last output: ${this.#seen.slice(-1000)}`);
    }
    const timer = new AbortController();
    const news = new Promise<void>((resolve) => (this.#wake = resolve));
    await Promise.race([news, sleep(left, undefined, { signal: timer.signal }).catch(() => undefined)]);
    timer.abort();
  }

  /**
   * Runs a command in a busybox sub-shell in the guest; what it printed. The first disk is mounted at /data.
   * busybox prefers its own programs: util-linux's fallocate (which can punch holes) is `/sbin/fallocate`.
   * @throws LabError when it exits other than 0 or takes longer than `timeoutMs`
   */
  async sh(command: string, timeoutMs: number = 120_000): Promise<string> {
    const mark = randomBytes(6).toString("hex");
    const deadline = Date.now() + timeoutMs;
    this.#seen = "";
    // Quotes split the mark in the command, so that only the shell's answer can hold it whole.
    this.#socket.write(`( ${command}\n); echo "${mark.slice(0, 6)}""${mark.slice(6)}=$?="\n`);
    const end = new RegExp(`^([^]*?)${mark}=(\\d+)=`);
    for (;;) {
      const match = end.exec(this.#seen);
      if (match !== null) {
        const output = (match[1] ?? "").replaceAll("\r", "").trim();
        if (match[2] !== "0") throw new LabError(`in the guest: ${command}: exit ${match[2]}: ${output}`);
        return output;
      }
      await this.#more(deadline);
    }
  }

  /** Hangs up; the guest goes on. */
  close(): void {
    this.#socket.destroy();
  }
}
