import type { BackupWork, VirtualMachineBackup } from "../../api/index.ts";
import { isKubeError } from "../../kube/index.ts";
import type { ControllerContext } from "../context.ts";
import { nodes } from "../kinds.ts";
import { gatherFacts } from "../kubevirt/gather.ts";
import { type BitmapFacts, bitmapDoubt, bitmapFacts } from "../plan/kubevirt/bitmap-doubt.ts";
import type { MachineFacts } from "../plan/kubevirt/facts.ts";
import { type HostMount, holderMounts } from "../plan/kubevirt/host-paths.ts";
import { type ImageSource, planSource, type ReadySource } from "../plan/kubevirt/source.ts";
import { bitmapsOf, newestOfRun } from "./newest.ts";
import { backupWork, domainSource, holderSource, launcherSource, nodeDirectories } from "./work.ts";

/** What an agent needs to read a machine. */
export interface ReadyWork {
  readonly kind: "ready";
  readonly work: BackupWork;
  readonly engine: "LibvirtPull" | "Image";
  readonly nodeName: string | null;
  readonly mounts: readonly HostMount[];
  /** The machine whose objects are kept with the point; null for a libvirt domain. */
  readonly facts: MachineFacts | null;
  /** what the run reads from, for as long as it goes on */
  readonly underWay: { readonly engine: "libvirt"; readonly instanceUid: string; readonly podUid: string } | { readonly engine: "image" };
  /** What the bitmaps rest on now, to be kept with the point; null without KubeVirt. */
  readonly bitmaps: BitmapFacts | null;
  /** By disk: why its bitmap is not believed, and all of it is read. */
  readonly doubts: Readonly<Record<string, string>>;
  /** The claims of a stopped machine, which a holder has to mount. */
  readonly holds: ImageSource | null;
  /** What the point will not have of the machine, or not as was asked. */
  readonly warnings: readonly string[];
  /** Volumes that the machine has anew at every start, and the point not at all. */
  readonly madeAnew: readonly string[];
}

export type WorkDecision =
  | ReadyWork
  | { readonly kind: "wait"; readonly reason: string; readonly message: string; readonly againInMs: number }
  | { readonly kind: "refuse"; readonly reason: string; readonly message: string; readonly final: boolean };

/** How KubeVirt's obstacles read as reasons of a run. */
const WAITS: Readonly<Record<string, string>> = {
  Migrating: "WaitingForMigration",
  Evacuating: "WaitingForMigration",
  MigrationPending: "WaitingForMigration",
  ForeignBackup: "WaitingForOtherBackup",
  SnapshotInProgress: "WaitingForOtherBackup",
  RestoreInProgress: "WaitingForOtherBackup",
  FrozenByAnother: "WaitingForOtherBackup",
  VolumeNotReady: "WaitingForVolume",
  VolumeInUse: "WaitingForVolume",
};

/** Where a run's disks are read from, and its work. */
export async function workOf(context: ControllerContext, run: VirtualMachineBackup, signal: AbortSignal): Promise<WorkDecision> {
  const { virtualMachine, libvirt } = run.spec.source;
  const namespace = run.metadata.namespace ?? "";
  if (libvirt !== undefined) return await domainWork(context, { run, libvirt }, signal);
  const facts = await gatherFacts(context.client, { namespace, name: virtualMachine?.name ?? "" }, signal);
  const decision = planSource(facts, { exclude: run.spec.disks.exclude ?? [], kubeletRoot: context.config.kubeletRoot });
  if (decision.kind === "wait") {
    return { ...decision, reason: WAITS[decision.reason] ?? "NotStarted", againInMs: decision.lookAgainSeconds * 1000 };
  }
  if (decision.kind === "refuse")
    return { ...decision, reason: decision.reason === "NoDisks" ? "DisksNotSupported" : decision.reason, final: false };
  return machineWork(context, run, { facts, decision });
}

function machineWork(
  context: ControllerContext,
  run: VirtualMachineBackup,
  { facts, decision }: { readonly facts: MachineFacts; readonly decision: ReadySource },
): ReadyWork {
  const { vm, namespace, name } = facts;
  const { source, warnings, madeAnew } = decision;
  if (vm === null) throw new TypeError("a machine that is not there has no source");
  const bitmaps = bitmapFacts(vm, facts.vmi, source.disks);
  const doubts = doubtsOf(context, run, bitmaps);
  const work = backupWork(run, {
    vm: { name: `${namespace}/${name}`, uid: vm.metadata.uid ?? null },
    source: source.engine === "libvirt" ? launcherSource(source, run.spec.scratch?.directory) : holderSource(source),
    freezeBy: source.engine === "libvirt" ? source.freeze : "none",
    doubted: Object.keys(doubts).length > 0,
    disks: source.disks.map(({ volume }) => volume),
    captures: [],
  });
  const common = { kind: "ready", work, facts, bitmaps, doubts, warnings, madeAnew, nodeName: source.node } as const;
  if (source.engine === "image") return { ...common, engine: "Image", mounts: [], underWay: { engine: "image" }, holds: source };
  const underWay = { engine: "libvirt", instanceUid: source.instanceUid, podUid: source.podUid } as const;
  return { ...common, engine: "LibvirtPull", mounts: source.mounts, underWay, holds: null };
}

function doubtsOf(context: ControllerContext, run: VirtualMachineBackup, bitmaps: BitmapFacts): ReadyWork["doubts"] {
  // Whoever asks for everything needs no reason.
  if (run.spec.level !== "Auto") return {};
  const newest = newestOfRun(context, run);
  if (newest === null) return Object.fromEntries(Object.keys(bitmaps.claims).map((volume) => [volume, noPoint]));
  return Object.fromEntries(bitmapDoubt(bitmapsOf(newest), bitmaps, false).map(({ volume, message }) => [volume, message]));
}

const noPoint = "this cluster knows no earlier restore point of the machine, so everything is read and compared";

/** The mounts of an agent that reads what a holder has. */
export function heldMounts(context: ControllerContext, { disks }: ImageSource, podUid: string): readonly HostMount[] {
  return holderMounts(`${context.config.kubeletRoot}/pods/${podUid}`, disks, false);
}

async function domainWork(
  { client, config }: ControllerContext,
  {
    run,
    libvirt,
  }: { readonly run: VirtualMachineBackup; readonly libvirt: NonNullable<VirtualMachineBackup["spec"]["source"]["libvirt"]> },
  signal: AbortSignal,
): Promise<WorkDecision> {
  if (run.metadata.namespace !== config.namespace) {
    const message = `a libvirt domain of a node can only be backed up from namespace ${config.namespace}: apply the run there`;
    return { kind: "refuse", reason: "NotPermitted", message, final: true };
  }
  const { nodeName, domain } = libvirt;
  if (!(await isThere(client.get(nodes, { name: nodeName }, { signal })))) {
    const message = `there is no node ${nodeName} in the cluster: name the node that the domain ${domain} is on`;
    return { kind: "refuse", reason: "NodeNotFound", message, final: false };
  }
  const work = backupWork(run, {
    vm: { name: domain, uid: null },
    source: domainSource(libvirt, run.spec.scratch?.directory),
    freezeBy: "libvirt",
    doubted: false,
    disks: null,
    captures: [],
  });
  const mounts = Object.entries(nodeDirectories).map(([name, path]): HostMount => ({
    name,
    hostPath: path,
    mountPath: path,
    type: "Directory",
    readOnly: false,
  }));
  const scratch = run.spec.scratch?.directory;
  if (scratch !== undefined) mounts.push({ name: "scratch", hostPath: scratch, mountPath: scratch, type: "Directory", readOnly: false });
  return {
    kind: "ready",
    work,
    engine: "LibvirtPull",
    nodeName,
    mounts,
    facts: null,
    underWay: { engine: "image" },
    bitmaps: null,
    doubts: {},
    holds: null,
    warnings: [],
    madeAnew: [],
  };
}

async function isThere(asked: Promise<unknown>): Promise<boolean> {
  try {
    await asked;
    return true;
  } catch (thrown) {
    if (isKubeError(thrown, "not-found")) return false;
    throw thrown;
  }
}
