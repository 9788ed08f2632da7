import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { LabError, run } from "../lab/index.ts";
import { type NodeHost, childOf } from "./host.ts";
import type { Image } from "./image.ts";
import { IMAGE_PATH } from "./image.ts";
import type { Container, Pod } from "./pod.ts";
import { expand } from "./sources.ts";
import type { Sources } from "./volumes.ts";

const SCRIPT: string = join(import.meta.dirname, "pod.sh");
const MESSAGE_BYTES = 4096;
const LOG_MESSAGE_BYTES = 2048;

/** What containerd gives a container that asks for nothing. */
const CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"]; // prettier-ignore

/** How a container ended, as its status has it. */
export interface Ending {
  readonly exitCode: number;
  readonly reason: string;
  readonly message?: string;
  readonly startedAt: string;
  readonly finishedAt: string;
}

export interface ContainerSpec {
  readonly pod: Pod;
  readonly host: NodeHost;
  readonly image: Image;
  readonly sources: Sources;
  readonly env: ReadonlyMap<string, string>;
  /** A new directory of its own. */
  readonly dir: string;
  /** Its output is appended here. */
  readonly log: string;
}

/** A running container: one process tree with namespaces and a root of its own. */
export class RunningContainer {
  readonly startedAt: string = now();
  /** Its root is built and its command runs, or it has ended before. */
  readonly started: Promise<void>;
  readonly ended: Promise<Ending>;
  /** Said of the end, instead of what the exit code says. */
  reason: string | undefined;
  readonly #spec: ContainerSpec;
  readonly #child: ChildProcess;

  constructor(spec: ContainerSpec) {
    this.#spec = spec;
    const container = spec.pod.spec.containers[0];
    if (container === undefined) throw new LabError("a pod without a container");
    mkdirSync(join(spec.dir, "root"), { recursive: true });
    const message = join(spec.dir, "message");
    writeFileSync(message, "");
    // Whoever the container runs as.
    chmodSync(message, 0o666);
    writeFileSync(join(spec.dir, "plan"), planOf(container, spec, message));
    this.#child = start(container, spec);
    let said = "";
    this.#child.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()));
    this.started = new Promise((resolve) => {
      this.#child.stdout?.once("data", () => resolve());
      this.#child.once("close", () => resolve());
      this.#child.once("error", () => resolve());
    });
    this.ended = new Promise((resolve) => {
      this.#child.once("error", () => resolve(this.#ending(128)));
      this.#child.once("close", (code, signal) => resolve(this.#ending(codeOf({ code, signal, said }))));
    });
  }

  /** The pid of its first process on this machine. @throws LabError when it has ended */
  pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new LabError("the container did not start");
    // nsenter waits for the unshare it became the parent of, unshare for the first process.
    return childOf(childOf(pid));
  }

  /** A signal to its first process, as container runtimes send it: without a handler, only SIGKILL does something to it. */
  kill(signal: "SIGTERM" | "SIGKILL"): void {
    try {
      process.kill(this.pid(), signal);
    } catch {
      // It has ended, or has not begun: then it must not begin.
      if (signal === "SIGKILL") this.#child.kill("SIGKILL");
    }
  }

  /** Runs a command inside, as `kubectl exec` does. @throws LabError */
  exec(command: readonly string[], input?: string): Promise<string> {
    const env = Object.fromEntries(envOf(this.#spec));
    const { pod } = this.#spec;
    const { runAsUser = 0, runAsGroup = runAsUser } = { ...pod.spec.securityContext, ...pod.spec.containers[0]?.securityContext };
    const as = ["-S", String(runAsUser), "-G", String(runAsGroup)];
    return run("nsenter", ["-t", String(this.pid()), "-m", "-p", "-u", "-i", "-r", "-w", ...as, "--", ...command], {
      env,
      ...(input === undefined ? {} : { input }),
    });
  }

  #ending(exitCode: number): Ending {
    const { pod, dir, log } = this.#spec;
    const said = readFileSync(join(dir, "message")).subarray(0, MESSAGE_BYTES).toString("utf8");
    const policy = pod.spec.containers[0]?.terminationMessagePolicy;
    const tail =
      said === "" && exitCode !== 0 && policy === "FallbackToLogsOnError"
        ? readFileSync(log).subarray(-LOG_MESSAGE_BYTES).toString("utf8")
        : said;
    const reason = this.reason ?? (exitCode === 0 ? "Completed" : "Error");
    return { exitCode, reason, ...(tail === "" ? {} : { message: tail }), startedAt: this.startedAt, finishedAt: now() };
  }
}

/** What a shell would say: of a command that a signal ended, 128 and the signal. */
function codeOf({
  code,
  signal,
  said,
}: {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly said: string;
}): number {
  // unshare wants to end as its child did, tries to unblock SIGKILL for that, and fails.
  if (said.includes("sigprocmask unblock failed")) return 128 + constants.signals.SIGKILL;
  return signal === null ? (code ?? 128) : 128 + constants.signals[signal];
}

/** The time as Kubernetes writes it. */
export function now(): string {
  return new Date().toISOString().replace(/\.\d+/, "");
}

function start(container: Container, spec: ContainerSpec): ChildProcess {
  const env = envOf(spec);
  const command = container.command ?? spec.image.entrypoint;
  const argv = [...command, ...(container.args ?? [])].map((arg) => expand(arg, env));
  const namespaces = ["--mount", "--uts", "--ipc", "--fork", "--kill-child", "--propagation", "private"];
  if (spec.pod.spec.hostPID !== true) namespaces.push("--pid");
  const script = ["unshare", ...namespaces, "sh", SCRIPT, join(spec.dir, "plan"), join(spec.dir, "root"), spec.log];
  const [program = "", ...args] = spec.host.enter([...script, ...privilege(container, spec.pod), ...inDirectory(container), ...argv]);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: Object.fromEntries(env), detached: true });
  return child;
}

function envOf({ pod, image, env }: ContainerSpec): Map<string, string> {
  return new Map([
    ["PATH", IMAGE_PATH],
    ["HOSTNAME", pod.spec.hostname ?? pod.metadata.name],
    ["HOME", "/"],
    ...Object.entries(image.env ?? {}),
    ...env,
  ]);
}

/** One command in front of the container's that gives up what the container may not have. */
function privilege({ securityContext = {} }: Container, pod: Pod): string[] {
  const {
    runAsUser = 0,
    runAsGroup,
    allowPrivilegeEscalation,
    capabilities,
    privileged,
  } = { ...pod.spec.securityContext, ...securityContext };
  const fsGroup = pod.spec.securityContext?.fsGroup;
  const group = runAsGroup ?? runAsUser;
  const flags = [
    "--regid",
    String(group),
    "--reuid",
    String(runAsUser),
    ...(fsGroup === undefined ? ["--clear-groups"] : ["--groups", String(fsGroup)]),
  ];
  if (allowPrivilegeEscalation === false) flags.push("--no-new-privs");
  if (privileged !== true) {
    const dropped = capabilities?.drop ?? [];
    const kept = new Set([
      ...(dropped.includes("ALL") ? [] : CAPABILITIES.filter((one) => !dropped.includes(one))),
      ...(capabilities?.add ?? []),
    ]);
    const list = ["-all", ...[...kept].map((one) => `+${one.toLowerCase().replace(/^cap_/, "")}`)].join(",");
    flags.push(`--bounding-set=${list}`, "--inh-caps=-all");
  }
  return ["/usr/bin/setpriv", ...flags];
}

function inDirectory({ workingDir }: Container): string[] {
  return workingDir === undefined ? [] : ["/usr/bin/env", "-C", workingDir];
}

function planOf(container: Container, { pod, host, image, sources }: ContainerSpec, message: string): string {
  const context = { ...pod.spec.securityContext, ...container.securityContext };
  const lines = image.layers.map((layer) => ["lower", layer]);
  for (const { target, source } of image.holds ?? []) lines.push(["mount", source, target, "ro"]);
  // As container runtimes do: what lies within another mount comes after it.
  const mounts = (container.volumeMounts ?? []).toSorted((a, b) => depth(a.mountPath) - depth(b.mountPath));
  for (const { name, mountPath, subPath, readOnly } of mounts) {
    const source = sourceOf(sources, name);
    const from = subPath === undefined ? source : subDirectory(host, source, subPath);
    lines.push(["mount", from, mountPath, readOnly === true ? "ro" : "rw"]);
  }
  for (const { name, devicePath } of container.volumeDevices ?? [])
    lines.push(["block", sourceOf(sources, name), devicePath, String(context.runAsUser ?? 0)]);
  lines.push(["mount", message, container.terminationMessagePath ?? "/dev/termination-log", "rw"]);
  if (context.privileged === true) for (const device of HOST_DEVICES) if (existsSync(`/dev/${device}`)) lines.push(["device", device]);
  lines.push(["root", context.readOnlyRootFilesystem === true ? "ro" : "rw"]);
  return `${lines.map((fields) => fields.join("\t")).join("\n")}\n`;
}

function depth(path: string): number {
  return path.split("/").filter((part) => part !== "").length;
}

/** Of what a privileged container sees in /dev, what a backup could want. */
const HOST_DEVICES = ["kvm", "loop-control", ...Array.from({ length: 16 }, (_, index) => `loop${index}`)];

/** A directory within a volume, made with the volume's own rights where it is missing. */
function subDirectory(host: NodeHost, source: string, subPath: string): string {
  const path = join(source, subPath);
  const seen = host.see(path);
  if (existsSync(seen)) return path;
  const { mode, gid } = statSync(host.see(source));
  mkdirSync(seen, { recursive: true });
  chownSync(seen, 0, gid);
  chmodSync(seen, mode);
  return path;
}

function sourceOf(sources: Sources, name: string): string {
  const source = sources.get(name);
  if (source === undefined) throw new LabError(`the pod has no volume ${name}`);
  return source;
}
