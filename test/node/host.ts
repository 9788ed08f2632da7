import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError, run } from "../lab/index.ts";

const SCRIPT: string = join(import.meta.dirname, "node.sh");

/** The machine of a simulated node: namespaces that its mounts and processes live in, and its kubelet's directory. */
export class NodeHost {
  readonly name: string;
  /** What is `/var/lib/kubelet` on a real node. */
  readonly kubelet: string;
  /** Prefixes of the node's paths, and where they are in truth. */
  readonly #places: Map<string, string>;
  readonly #child: ChildProcess;
  #init: number = 0;

  private constructor(name: string, dir: string) {
    this.name = name;
    this.kubelet = join(dir, `kubelet-${name}`);
    mkdirSync(join(this.kubelet, "pods"), { recursive: true, mode: 0o750 });
    this.#places = new Map([["/var/lib/kubelet", this.kubelet]]);
    const namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--mount-proc"];
    this.#child = spawn("unshare", [...namespaces, "sh", SCRIPT], { stdio: ["pipe", "pipe", "inherit"], detached: true });
    this.#child.on("error", () => undefined); // start() finds it without a pid
    this.#child.stdin?.on("error", () => undefined);
    this.#child.unref();
  }

  /** It ends with this process in any case. @throws LabError */
  static async start(name: string, dir: string): Promise<NodeHost> {
    const host = new NodeHost(name, dir);
    const { stdout } = host.#child;
    if (host.#child.pid === undefined || stdout === null) throw new LabError(`node ${name}: no unshare on this machine`);
    await once(stdout, "data", { signal: AbortSignal.timeout(30_000) });
    for (const stream of [host.#child.stdin, stdout]) (stream as unknown as { unref?(): void } | null)?.unref?.();
    host.#init = childOf(host.#child.pid);
    return host;
  }

  /** Puts a directory of this machine in the place of one of the node's: `/var/run/libvirt` of a node that has virtual machines of its own. */
  place(prefix: string, directory: string): void {
    this.#places.set(prefix, directory);
  }

  /** Where a path of the node's lies on this machine. */
  translate(path: string): string {
    const prefixes = [...this.#places.keys()].filter((prefix) => path === prefix || path.startsWith(`${prefix}/`));
    const longest = prefixes.toSorted((a, b) => b.length - a.length)[0];
    return longest === undefined ? path : `${this.#places.get(longest)}${path.slice(longest.length)}`;
  }

  /** A path of this machine as seen with the node's mounts. */
  see(path: string): string {
    return `/proc/${this.#init}/root${path}`;
  }

  /** The command line that runs another on the node. */
  enter(command: readonly string[]): string[] {
    return ["nsenter", "-t", String(this.#init), "-m", "-p", "--", ...command];
  }

  /** Runs a command on the node. @throws LabError */
  run(...command: readonly string[]): Promise<string> {
    const [program = "", ...args] = this.enter(command);
    return run(program, args);
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** A power cut: everything that runs on it is gone at once. */
  async stop(): Promise<void> {
    if (!this.running) return;
    this.#child.ref();
    const ended = once(this.#child, "exit");
    this.#child.stdin?.destroy();
    this.#child.kill("SIGKILL");
    await ended;
    // The first process is dead only after everything in its namespace.
    while (isAlive(this.#init)) await sleep(10);
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** The only child of a process that waits for one. @throws LabError */
export function childOf(pid: number): number {
  const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0]);
  if (!(child > 1)) throw new LabError(`process ${pid} has no child`);
  return child;
}
