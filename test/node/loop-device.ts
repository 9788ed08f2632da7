import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { LabError } from "../lab/index.ts";

const SCRIPT: string = join(import.meta.dirname, "loop-device.sh");

/** A file as a block device of this machine. It is freed when this process ends, however it ends. */
export class LoopDevice {
  /** `/dev/loop7` */
  readonly path: string;
  readonly #child: ChildProcess;

  private constructor(path: string, child: ChildProcess) {
    this.path = path;
    this.#child = child;
  }

  /** @throws LabError when the machine has no loop devices */
  static async attach(file: string): Promise<LoopDevice> {
    const child = spawn("sh", [SCRIPT, file], { stdio: ["pipe", "pipe", "pipe"], detached: true });
    child.stdin.on("error", () => undefined);
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const [first] = (await Promise.race([once(child.stdout, "data"), once(child, "exit").then(() => [""])])) as [Buffer | string];
    const path = first.toString().trim();
    if (!path.startsWith("/dev/")) throw new LabError(`no loop device for ${file}: ${said}`);
    child.unref();
    for (const stream of [child.stdin, child.stdout, child.stderr]) (stream as unknown as { unref?(): void }).unref?.();
    return new LoopDevice(path, child);
  }

  /** Safe to call again. Whoever has it open keeps it. */
  async release(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.ref();
    const ended = once(this.#child, "exit");
    this.#child.stdin?.destroy();
    await ended;
  }
}
