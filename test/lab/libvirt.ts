import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, openSync, closeSync, readFileSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { LabError, run } from "./exec.ts";
import { labBase, tempDir } from "./temp-dir.ts";
import { checkout, needTier, tierPath } from "./tiers.ts";

/** `host`: Debian 12's own libvirt 9.0 and QEMU 7.2. `trixie`: libvirt 11.3 and QEMU 10.0 from a debootstrap root. */
export type Flavour = "host" | "trixie";

/** A running private libvirtd; several may run at once, none sees the machine's own. */
export interface LibvirtLab {
  readonly flavour: Flavour;
  /** For `virsh -c` and virConnectOpen, from outside. */
  readonly uri: string;
  /** Everything of this lab; images may lie here: the path is the same for QEMU and for the test. */
  readonly dir: string;
  readonly versions: { readonly libvirt: string; readonly qemu: string };
  /** virsh against this lab: its standard output. @throws LabError with virsh's own message */
  virsh(...args: readonly string[]): Promise<string>;
  /** This flavour's own qemu-img. @throws LabError */
  qemuImg(...args: readonly string[]): Promise<string>;
  /** Any program of this flavour, with the file system as its QEMU sees it. @throws LabError */
  exec(command: string, ...args: readonly string[]): Promise<string>;
  /** Kills libvirtd with SIGKILL and starts it again; running domains go on. */
  restartDaemon(): Promise<void>;
  /** The pid, as the test sees it, of the process that libvirt knows under `inner`. */
  hostPid(inner: number): number;
  /** Ends libvirtd and all its domains at once, as a power cut would; safe to call again. */
  stop(): Promise<void>;
}

const SCRIPT: string = join(import.meta.dirname, "libvirtd.sh");

/**
 * Starts a private libvirtd of the flavour. It ends with this process in any case, however this process ends.
 * @throws LabError when the tier is not there (see `skipWithout`) or libvirtd does not come up
 */
export async function startLibvirt(flavour: Flavour, options: { readonly dir?: string } = {}): Promise<LibvirtLab> {
  needTier(flavour);
  const dir = options.dir ?? tempDir(flavour);
  prepare(dir);
  const daemon = new Daemon(flavour, dir);
  await daemon.expectReady();
  const lab: Omit<LibvirtLab, "versions"> = {
    flavour,
    dir,
    uri: `qemu:///system?socket=${dir}/s/libvirt-sock`,
    virsh: (...args) => run("virsh", ["-q", "-c", lab.uri, ...args]),
    qemuImg: (...args) => lab.exec("qemu-img", ...args),
    exec: (command, ...args) => daemon.exec(command, args),
    hostPid: (inner) => daemon.hostPid(inner),
    restartDaemon: () => daemon.restart(),
    stop: () => daemon.stop(),
  };
  try {
    return Object.assign(lab, { versions: versionsOf(await lab.virsh("version", "--daemon")) });
  } catch (cause) {
    await lab.stop();
    // libvirtd says it is up before its QEMU driver is: then its log has the reason.
    throw new LabError(`libvirtd started and failed: ${errorLines(join(dir, "libvirtd.log"))}`, { cause });
  }
}

function errorLines(log: string): string {
  const lines = readFileSync(log, "utf8").split("\n");
  return lines
    .filter((line) => line.includes(" error : "))
    .slice(-3)
    .join(" | ");
}

function versionsOf(text: string): LibvirtLab["versions"] {
  const libvirt = /Running against daemon: ([\d.]+)/.exec(text)?.[1];
  const qemu = /Running hypervisor: QEMU ([\d.]+)/.exec(text)?.[1];
  if (libvirt === undefined || qemu === undefined) throw new LabError(`virsh version gave no versions: ${text}`);
  return { libvirt, qemu };
}

function prepare(dir: string): void {
  const socket = `${dir}/s/libvirt-sock`;
  if (socket.length > 107) throw new LabError(`${dir} is too long a path for a unix socket in it`);
  for (const sub of ["s", "fs/etc/qemu", "fs/run", "fs/lib", "fs/log", "fs/cache"]) mkdirSync(join(dir, sub), { recursive: true });
  writeFileSync(
    join(dir, "fs/etc/libvirtd.conf"),
    [
      `unix_sock_dir = "${dir}/s"`,
      'auth_unix_rw = "none"',
      'auth_unix_ro = "none"',
      "max_clients = 200",
      "max_workers = 20",
      `log_outputs = "2:file:${dir}/libvirtd.log"`,
      "",
    ].join("\n"),
  );
  writeFileSync(
    join(dir, "fs/etc/qemu.conf"),
    [
      'user = "root"',
      'group = "root"',
      "dynamic_ownership = 0",
      "remember_owner = 0",
      'security_driver = "none"',
      "namespaces = []",
      "cgroup_controllers = []",
      'stdio_handler = "file"',
      "",
    ].join("\n"),
  );
}

class Daemon {
  readonly #dir: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(flavour: Flavour, dir: string) {
    this.#dir = dir;
    const root = flavour === "trixie" ? tierPath("trixie") : "";
    const shared = [...new Set(["/tmp", tmpdir(), "/var/tmp", "/run", labBase(), dir, checkout(), tierPath("guest")])]
      .filter((path) => path !== "" && !path.startsWith("/dev/"))
      .join(":");
    const log = openSync(join(dir, "lab.log"), "a");
    this.#child = spawn(
      "unshare",
      ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "slave", "--mount-proc", "sh", SCRIPT, dir, root, shared],
      { stdio: ["pipe", "pipe", log], detached: true },
    );
    closeSync(log);
    this.#child.once("error", () => undefined);
    this.#child.stdin?.on("error", () => undefined); // the other side ended; stop() and expectReady() tell
    this.#child.unref();
    for (const stream of [this.#child.stdin, this.#child.stdout]) (stream as unknown as { unref?(): void } | null)?.unref?.();
    if (this.#child.pid !== undefined) writeFileSync(join(dir, "lab.pid"), String(this.#child.pid));
    if (this.#child.stdout === null) throw new LabError("unshare gave no standard output");
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  async expectReady(): Promise<void> {
    // An unreferenced pipe does not keep the process alive by itself; this timer does, and bounds the wait.
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<{ value: string }>(
      (resolve) => (timer = setTimeout(() => resolve({ value: "not ready after 60 s" }), 60_000)),
    );
    const { value } = (await Promise.race([this.#lines.next(), late])) as { value?: string };
    clearTimeout(timer);
    if (value === "ready") return;
    await this.stop();
    throw new LabError(`libvirtd did not start (${value ?? "its shell ended"}): ${this.#tail("lab.log")} ${this.#tail("libvirtd.log")}`);
  }

  #tail(file: string): string {
    try {
      return readFileSync(join(this.#dir, file), "utf8").slice(-2000);
    } catch {
      return ""; // it had no time to write one
    }
  }

  async restart(): Promise<void> {
    this.#child.stdin?.write("restart\n");
    await this.expectReady();
  }

  /** Host pid of the namespace's first process: the only child of unshare. */
  #init(): number {
    const { pid } = this.#child;
    const children = pid === undefined ? "" : readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
    const init = Number(children.trim().split(" ")[0]);
    if (!(init > 1)) throw new LabError("the libvirt lab is not running");
    return init;
  }

  exec(command: string, args: readonly string[]): Promise<string> {
    const daemon = this.hostPid(Number(readFileSync(join(this.#dir, "libvirtd.pid"), "utf8")));
    return run("nsenter", ["-t", String(daemon), "-m", "-r", "-w", "--", command, ...args]);
  }

  hostPid(inner: number): number {
    const space = readlinkSync(`/proc/${this.#init()}/ns/pid`);
    for (const entry of readdirSync("/proc")) {
      if (!/^\d+$/.test(entry)) continue;
      try {
        if (readlinkSync(`/proc/${entry}/ns/pid`) !== space) continue;
        const ids = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${entry}/status`, "utf8"))?.[1]?.split("\t");
        if (Number(ids?.at(-1)) === inner) return Number(entry);
      } catch {
        continue; // that process ended while we looked
      }
    }
    throw new LabError(`no process ${inner} in this libvirt lab`);
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.ref();
    const ended = once(child, "exit");
    child.stdin?.destroy();
    child.kill("SIGKILL"); // --kill-child takes the first process along, and with it the whole namespace
    await ended;
  }
}
