import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DiskSpec, DomainSpec } from "./domain-xml.ts";
import { busOf, domainXml } from "./domain-xml.ts";
import { LabError } from "./exec.ts";
import { GuestConsole } from "./guest-console.ts";
import { rawCopy } from "./images.ts";
import type { LibvirtLab } from "./libvirt.ts";
import { needTier, tierPath } from "./tiers.ts";

/** What it takes to do to a domain what its guest could. */
export interface GuestDomain {
  readonly lab: Pick<LibvirtLab, "virsh">;
  readonly name: string;
  readonly spec: Pick<DomainSpec, "disks">;
  /** The file that QEMU's output goes to. */
  readonly qemuLog: string;
}

/** A domain of a lab libvirt. Nothing is started until `start()`. */
export interface LabDomain extends GuestDomain {
  readonly lab: LibvirtLab;
  readonly uuid: string;
  readonly spec: DomainSpec;
  /** As it was defined. */
  readonly xml: string;
  /** Starts it: with the guest, waits until its shell and its agent answer; else it stays paused (QEMU up, no CPU runs). */
  start(): Promise<void>;
  /** Power cut. */
  destroy(): Promise<void>;
  /** Removes the definition and the checkpoints' metadata; the bitmaps and images stay. */
  undefine(): Promise<void>;
  /** The shell inside the guest. @throws LabError when the domain has no guest or has not been started */
  readonly guest: GuestConsole;
  /** Pid, as the test sees it, of the QEMU process. */
  qemuPid(): number;
}

/**
 * Defines a domain. `domain.start()` runs it.
 * @throws LabError with libvirt's message when it refuses the XML
 */
export async function defineDomain(lab: LibvirtLab, spec: DomainSpec): Promise<LabDomain> {
  if (spec.guest === true) needTier("guest");
  const uuid = spec.uuid ?? randomUUID();
  const stem = join(lab.dir, randomBytes(3).toString("hex"));
  const consolePath = `${stem}.sock`;
  const xml = domainXml(spec, { uuid, console: consolePath, consoleLog: `${stem}.log`, guest: tierPath("guest") });
  await defineXml(lab, xml);
  let shell: GuestConsole | undefined;
  return {
    lab,
    name: spec.name,
    uuid,
    spec,
    xml,
    qemuLog: join(lab.dir, "fs/log/qemu", `${spec.name}.log`),
    start: async () => {
      shell?.close();
      if (spec.guest !== true) {
        await lab.virsh("start", "--paused", spec.name);
        return;
      }
      await lab.virsh("start", spec.name);
      shell = await GuestConsole.connect(consolePath);
      if (spec.agentChannel !== false) await untilAgentAnswers(lab, spec.name);
    },
    destroy: async () => {
      shell?.close();
      await lab.virsh("destroy", spec.name);
    },
    undefine: async () => {
      const nvram = spec.nvram === undefined ? [] : ["--keep-nvram"];
      await lab.virsh("undefine", "--checkpoints-metadata", ...nvram, spec.name);
    },
    get guest(): GuestConsole {
      if (shell === undefined) throw new LabError(`domain ${spec.name} has no running guest`);
      return shell;
    },
    qemuPid: () => lab.hostPid(Number(readFileSync(join(lab.dir, "fs/run/qemu", `${spec.name}.pid`), "utf8"))),
  };
}

/** The guest's shell is up a moment before its agent has opened the channel. */
async function untilAgentAnswers(lab: LibvirtLab, name: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      await lab.virsh("qemu-agent-command", "--timeout", "10", name, '{"execute":"guest-ping"}');
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(100);
    }
  }
}

/** Defines a domain from XML. @throws LabError with libvirt's message */
export async function defineXml(lab: LibvirtLab, xml: string): Promise<void> {
  const file = join(lab.dir, `${randomBytes(3).toString("hex")}.xml`);
  writeFileSync(file, xml);
  await lab.virsh("define", file);
}

/** A human monitor command to a running domain's QEMU; what it printed. @throws LabError */
export async function hmp(domain: GuestDomain, command: string): Promise<string> {
  return (await domain.lab.virsh("qemu-monitor-command", domain.name, "--hmp", command)).trim();
}

/** QEMU's name for the block backend that the guest sees as this disk. */
export function qdevPath(domain: GuestDomain, diskName: string): string {
  const disk = domain.spec.disks.find(({ name }) => name === diskName);
  if (disk === undefined) throw new LabError(`domain ${domain.name} has no disk ${diskName}`);
  const { alias = defaultAlias(disk) } = disk;
  return `/machine/peripheral/${alias}${busOf(disk) === "virtio" ? "/virtio-backend" : ""}`;
}

function defaultAlias(disk: DiskSpec): string {
  const index = disk.name.charCodeAt(2) - "a".charCodeAt(0);
  return busOf(disk) === "virtio" ? `virtio-disk${index}` : `${busOf(disk)}0-0-0-${index}`;
}

/**
 * Does to the disk of a running (or paused) domain what a guest could: qemu-io commands such as
 * `write -P 0xaa 0 1M`, `write -z -u 1M 64k`, `discard 2M 1M`, `flush`. Bitmaps see it as they see a guest's write.
 * @throws LabError when QEMU refuses or fails the command
 */
export async function writeAsGuest(domain: GuestDomain, diskName: string, ...commands: readonly string[]): Promise<void> {
  const device = qdevPath(domain, diskName);
  // QEMU prints what qemu-io says, errors included, only to its own output: the domain's log.
  const log = domain.qemuLog;
  for (const command of commands) {
    const before = statSync(log).size;
    const refused = await hmp(domain, `qemu-io -d ${device} "${command}"`);
    const said = refused === "" ? withoutTimed(readFileSync(log).subarray(before).toString()) : refused;
    const done = command.startsWith("flush") ? said === "" : /^(wrote|discard|read) (\d+)\/\2 bytes/.test(said);
    if (!done) throw new LabError(`qemu-io on ${diskName} of ${domain.name}: ${command}: ${said || "no answer"}`);
  }
}

/**
 * The disk of a running or paused domain as its guest would read it now, as a sparse raw file.
 * The guest's own cache is not in it: freeze or sync first where that matters.
 * @throws LabError
 */
export async function snapshot(domain: LabDomain, diskName: string, output?: string): Promise<string> {
  const disk = domain.spec.disks.find(({ name }) => name === diskName);
  if (disk === undefined) throw new LabError(`domain ${domain.name} has no disk ${diskName}`);
  const running = (await domain.lab.virsh("domstate", domain.name)).trim() === "running";
  if (running) await domain.lab.virsh("suspend", domain.name);
  try {
    await writeAsGuest(domain, diskName, "flush");
    return await rawCopy(disk.path, output);
  } finally {
    if (running) await domain.lab.virsh("resume", domain.name);
  }
}

/** A log without libvirt's and QEMU's own messages, which begin with the time. */
function withoutTimed(log: string): string {
  const lines = log.split("\n").filter((line) => !/^\d{4}-\d\d-\d\d[ T]/.test(line));
  return lines.join("\n").trim();
}
