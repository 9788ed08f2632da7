import { readFile } from "node:fs/promises";
import { backupBitmapContext, type DomainDescription, type DomainDisk, parseDomain, versionText } from "../../libvirt/index.ts";
import { errorText } from "../../lib/errors.ts";
import type { BackupSource, Capture } from "../backup-source.ts";
import { SourceError } from "../errors.ts";
import { NbdDisk } from "../nbd-disk.ts";
import { imageInfo, type ImageInfo } from "../qemu-img.ts";
import { defineBases, unsupported } from "./begin.ts";
import { captureDomain, captureGuestInfo, json, text } from "../captures.ts";
import { DomainSession } from "./domain-session.ts";
import type { FreezeReport } from "./freeze.ts";
import { type Instant, takeInstant } from "./instant.ts";
import type { LibvirtPullOptions } from "./options.ts";
import { type DiskPlan, type Instance, planDisk, selectDisks } from "./plan.ts";
import { prepare } from "./prepare.ts";
import type { PullRun } from "./run.ts";

const MIN_LIBVIRT = 7_002_000;
const MIN_QEMU = 4_002_000;

/**
 * Takes a running domain's disks at one instant by libvirt's pull backup job. Rejects with a `SourceError`, `LibvirtError` or
 * `NbdError`, or the signal's reason, and leaves nothing behind then.
 */
export async function openLibvirtPull(options: LibvirtPullOptions): Promise<BackupSource> {
  const session = await DomainSession.open(options);
  let run: PullRun | undefined;
  try {
    await options.onStep?.("connected");
    const machine = await inspect(session, options);
    run = await prepare(session, machine.description, options);
    return await begin(run, machine, options);
  } catch (error) {
    if (run === undefined) await session.close();
    else await run.abort();
    throw error;
  }
}

interface Machine {
  readonly description: DomainDescription;
  readonly liveXml: string;
  readonly versions: { readonly libvirt: number; readonly qemu: number };
}

async function inspect(session: DomainSession, options: LibvirtPullOptions): Promise<Machine> {
  const { signal, uri } = options;
  const type = await session.connection.hypervisorType(signal);
  if (type !== "QEMU") throw unsupported(`the machines at ${uri} run under ${type}, not QEMU, and cannot be backed up`);
  const libvirt = await session.connection.libvirtVersion(signal);
  const qemu = await session.connection.hypervisorVersion(signal);
  if (libvirt < MIN_LIBVIRT || qemu < MIN_QEMU) {
    throw unsupported(`libvirt ${versionText(libvirt)} with QEMU ${versionText(qemu)} cannot back up a running machine`);
  }
  if (!(await session.domain.isActive(signal))) {
    const hint = "back up its images instead";
    throw new SourceError("not-running", `domain "${options.domain}" is not running`, { hint });
  }
  const liveXml = await session.domain.xml({ signal });
  return { description: parseDomain(liveXml), liveXml, versions: { libvirt, qemu } };
}

async function begin(run: PullRun, machine: Machine, options: LibvirtPullOptions): Promise<BackupSource> {
  const { domain } = run.session;
  const selected = selectDisks(machine.description, options);
  const instance = await instanceOf(run.session, options);
  const planned = await Promise.all(selected.disks.map((disk) => plan(disk, run.session, options, instance)));
  const plans = await defineBases(domain, planned);
  await options.onStep?.("bases-defined");
  const kept = await captureDomain(domain, { ...machine.description, liveXml: machine.liveXml, confined: options.confined });
  const guest = machine.description.hasAgentChannel ? await captureGuestInfo(domain, options.signal) : [];

  const instant = await takeInstant(run, { description: machine.description, plans, options });
  run.watch();
  const tracked = instant.checkpoint === null ? [] : instant.plans.filter((one) => one.tracked).map((one) => one.target);
  const disks = await exportDisks(run, instant, options);
  await options.onStep?.("exported");
  const captures = [...kept.captures, ...guest, json("freeze.json", instant.freeze), toolCapture(machine)];
  if (instant.checkpoint !== null && tracked.length > 0) captures.push(await checkpointCapture(run.session, instant.checkpoint));
  const warnings = [...selected.warnings, ...kept.warnings, ...freezeWarnings(instant.freeze)];
  const present = new Set(machine.description.disks.map((disk) => disk.target));
  const taken = { disks, consistency: instant.freeze.consistency, captures, warnings };
  return { ...taken, commit: () => run.commit(tracked, present), abort: () => run.abort() };
}

function toolCapture({ versions }: Machine): Capture {
  return json("tool.json", { engine: "libvirt-pull", libvirt: versionText(versions.libvirt), qemu: versionText(versions.qemu) });
}

function freezeWarnings({ problem }: FreezeReport): string[] {
  return problem === null ? [] : [`the backup is only crash-consistent: ${problem}`];
}

async function checkpointCapture(session: DomainSession, name: string): Promise<Capture> {
  const checkpoint = await session.domain.checkpoint(name);
  try {
    return text("checkpoint.xml", await checkpoint.xml());
  } finally {
    await checkpoint.close();
  }
}

async function exportDisks(run: PullRun, instant: Instant, options: LibvirtPullOptions): Promise<NbdDisk[]> {
  const { connections = 4, signal } = options;
  const opened = await Promise.allSettled(
    instant.plans.map(async ({ name, target, level, reason, base, tracked, imageInfo: info }) => {
      const standing = base === null ? null : { point: base.point, size: base.size, context: backupBitmapContext(target) };
      const spec = { name, level, reason, base: standing, checkpoint: tracked ? instant.checkpoint : null, imageInfo: info };
      const address = { socket: run.dir.socket, exportName: target };
      const disk = await NbdDisk.open(spec, { address, connections, signal, explain: (lost) => run.explain(lost) });
      run.opened(disk);
      return disk;
    }),
  );
  const failed = opened.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return opened.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
}

async function plan(disk: DomainDisk, session: DomainSession, options: LibvirtPullOptions, instance: Instance): Promise<DiskPlan> {
  const path = disk.path ?? (disk.volume === null ? null : await session.connection.volumePath(disk.volume.pool, disk.volume.volume));
  let info: ImageInfo | null = null;
  try {
    if (path !== null) info = await imageInfo(path, disk.format, options.signal);
  } catch (error) {
    options.signal.throwIfAborted();
    // The image may lie where only QEMU sees it; the job reads it all the same.
    options.log.warn({ disk: disk.target, reason: errorText(error) }, "facts about the image cannot be kept with the point");
  }
  return planDisk(disk, info, { level: options.level, bases: options.bases, instance, diskNames: options.diskNames });
}

async function instanceOf(session: DomainSession, { instanceUid }: LibvirtPullOptions): Promise<Instance> {
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
  return { boot: boot.trim(), ...(await session.domain.instance()), ...(instanceUid === undefined ? {} : { uid: instanceUid }) };
}
