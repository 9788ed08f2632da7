import { type BoundDisk, type DiskSurvey, surveyDisks } from "./disks.ts";
import { identityOf, isFinal, isOver, type MachineFacts, type Obstacle, obstacle, type WaitReason } from "./facts.ts";
import { type HostMount, holderVolumes, launcherDirectories, launcherMounts, type LauncherState } from "./host-paths.ts";
import type { LauncherPod, VirtualMachineInstance } from "./objects.ts";
import { placeOf } from "./place.ts";
import { runningObstacle, storageObstacle, wantsToRun } from "./obstacles.ts";

/** What is asked for besides the machine. */
export interface SourceRequest {
  readonly exclude: readonly string[];
  /** The kubelet's root directory on the nodes. */
  readonly kubeletRoot: string;
}

/** How a machine's file systems can be brought to rest. */
export type FreezeBy = "controller" | "none";

/** A backup from the libvirt of a running machine. */
export interface LibvirtSource {
  readonly engine: "libvirt";
  readonly node: string;
  readonly podName: string;
  readonly podUid: string;
  readonly instanceUid: string;
  readonly uri: string;
  readonly domain: string;
  readonly runtimeDir: string;
  readonly scratchDir: string;
  /** The disk's alias in libvirt by volume. */
  readonly diskNames: Readonly<Record<string, string>>;
  readonly disks: readonly BoundDisk[];
  readonly mounts: readonly HostMount[];
  /** By the VMI's subresource, so that KubeVirt knows; `none` for a paused guest, and where no guest agent answers. */
  readonly freeze: FreezeBy;
}

/** A backup of a stopped machine's volumes, which a holder's pod mounts. */
export interface ImageSource {
  readonly engine: "image";
  /** The node the holder has to be on; null: the scheduler finds one that can have the volumes. */
  readonly node: string | null;
  readonly disks: readonly BoundDisk[];
  readonly images: readonly { readonly disk: string; readonly path: string; readonly format: "raw" }[];
}

export type RefusalReason = "VirtualMachineNotFound" | "DisksNotSupported" | "NoDisks";

export interface ReadySource {
  readonly kind: "ready";
  readonly source: LibvirtSource | ImageSource;
  /** What holds data and is no part of the backup, or is not as was asked. */
  readonly warnings: readonly string[];
  /** Volumes that the machine has anew at every start: no part of the backup, and nothing to warn of. */
  readonly madeAnew: readonly string[];
}

/** How to back up a machine now, when to look again, or why it cannot be. */
export type SourceDecision =
  | ReadySource
  | ({ readonly kind: "wait" } & Obstacle)
  | { readonly kind: "refuse"; readonly reason: RefusalReason; readonly message: string };

/** Decides where a machine's disks are read from. */
export function planSource(facts: MachineFacts, request: SourceRequest): SourceDecision {
  const { vm, vmi, namespace, name } = facts;
  if (vm === null) return refuse("VirtualMachineNotFound", `there is no VirtualMachine ${name} in namespace ${namespace}: check the name`);
  if (vm.metadata.deletionTimestamp !== undefined) return wait("BeingDeleted", `${name} is being deleted`);
  const isRunning = vmi !== null && !isFinal(vmi);
  // What can never be backed up is said at once, not after the migration.
  const survey = surveyDisks((isRunning ? vmi.spec : vm.spec?.template?.spec) ?? {}, facts, request.exclude);
  const refusal = refusalOf(name, survey);
  if (refusal !== null) return refusal;
  return isRunning ? planRunning(facts, { vmi, survey, request }) : planStopped(facts, survey);
}

function refusalOf(name: string, { disks, unsupported, notReady }: DiskSurvey): SourceDecision | null {
  if (unsupported.length > 0) return refuse("DisksNotSupported", unsupported.map(({ message }) => message).join("; "));
  if (disks.length > 0 || notReady.length > 0) return null;
  return refuse("NoDisks", `${name} has no disk to back up: all its volumes are made anew at every start, or left out`);
}

interface Running {
  readonly vmi: VirtualMachineInstance;
  readonly survey: DiskSurvey;
  readonly request: SourceRequest;
}

function planRunning(facts: MachineFacts, { vmi, survey, request }: Running): SourceDecision {
  const barrier = runningObstacle(facts, vmi) ?? waitForVolumes(survey) ?? unready(facts, vmi);
  if (barrier !== null) return { kind: "wait", ...barrier };
  const pod = launcherOf(facts, vmi);
  if (typeof pod === "string") return wait("LauncherNotReady", pod);
  return { kind: "ready", source: libvirtSource(pod, facts, { vmi, survey, request }), ...notesOf(survey, vmi) };
}

function libvirtSource(pod: LauncherPod, facts: MachineFacts, { vmi, survey: { disks }, request }: Running): LibvirtSource {
  const { name: podName, uid: podUid } = identityOf(pod);
  const session = vmi.status?.runtimeUser === 0 ? "system" : "session";
  return {
    engine: "libvirt",
    node: pod.spec?.nodeName ?? "",
    podName,
    podUid,
    instanceUid: identityOf(vmi).uid,
    uri: `qemu+unix:///${session}?socket=${launcherDirectories.runtime}/virtqemud-sock`,
    domain: `${facts.namespace}_${facts.name}`,
    runtimeDir: launcherDirectories.runtime,
    scratchDir: launcherDirectories.scratch,
    diskNames: Object.fromEntries(disks.map(({ volume }) => [volume, `ua-${volume}`])),
    disks,
    mounts: launcherMounts(`${request.kubeletRoot}/pods/${podUid}`, { disks, state: stateOf(facts, pod, vmi) }),
    freeze: isTrue(vmi, "AgentConnected") && !isTrue(vmi, "Paused") ? "controller" : "none",
  };
}

/** Where a launcher has libvirt's own directories and the overlays that track blocks. */
function stateOf({ claims, volumes }: MachineFacts, { spec }: LauncherPod, { status }: VirtualMachineInstance): LauncherState {
  const named = spec?.volumes ?? [];
  const hasQemuDirectory = named.some(({ name }) => name === "private-libvirt-qemu");
  if (status?.changedBlockTracking?.state !== "Enabled") return { hasQemuDirectory, place: null };
  const claimName = named.find(({ name }) => name === "vm-state")?.persistentVolumeClaim?.claimName;
  const claim = claims.find(({ metadata }) => metadata.name === claimName);
  const volume = volumes.find(({ metadata }) => metadata.name === claim?.spec?.volumeName);
  return { hasQemuDirectory, place: volume === undefined ? null : placeOf(volume, "Filesystem") };
}

/** An instance that has not reached Running, or whose guest somebody froze: who froze it wants it as it is, and would find it thawed. */
function unready({ name }: MachineFacts, { status = {} }: VirtualMachineInstance): Obstacle | null {
  if (status.phase !== "Running") return obstacle("Starting", `${name} is starting (${status.phase ?? "Pending"})`);
  if (status.fsFreezeStatus !== "frozen") return null;
  return obstacle(
    "FrozenByAnother",
    `the file systems of ${name} are frozen already, by a snapshot or another backup; this one follows when they are thawed`,
  );
}

/** The pod the instance runs in, or why there is none: the newest of its own on its node, as KubeVirt finds it. */
function launcherOf({ pods, name }: MachineFacts, vmi: VirtualMachineInstance): LauncherPod | string {
  const own = pods.filter(
    ({ metadata }) =>
      metadata.labels?.["kubevirt.io"] === "virt-launcher" &&
      metadata.ownerReferences?.some(({ controller, uid }) => controller === true && uid === vmi.metadata.uid) === true,
  );
  const living = own.filter((pod) => !isOver(pod));
  if (living.length > 1) return `${name} has ${living.length} virt-launcher pods, of which one is going`;
  const pod = living.find(({ spec }) => spec?.nodeName !== undefined && spec.nodeName === vmi.status?.nodeName);
  if (pod === undefined) return `${name} has no virt-launcher pod on its node yet`;
  const compute = pod.status?.containerStatuses?.find((one) => one.name === "compute");
  const isUp = pod.metadata.deletionTimestamp === undefined && pod.status?.phase === "Running" && compute?.ready !== false;
  return isUp ? pod : `the virt-launcher pod ${pod.metadata.name} is not ready`;
}

function planStopped(facts: MachineFacts, survey: DiskSurvey): SourceDecision {
  const { name } = facts;
  if (wantsToRun(facts)) return wait("Starting", `${name} is about to start`);
  const barrier = storageObstacle(facts) ?? waitForVolumes(survey);
  if (barrier !== null) return { kind: "wait", ...barrier };
  const users = usersOf(facts, survey.disks);
  if (users.foreign !== null) return wait("VolumeInUse", users.foreign);
  const images = survey.disks.map(({ volume, mode }) => ({
    disk: volume,
    path: mode === "Block" ? `${holderVolumes}/${volume}` : `${holderVolumes}/${volume}/disk.img`,
    format: "raw" as const,
  }));
  return { kind: "ready", source: { engine: "image", node: users.node, disks: survey.disks, images }, ...notesOf(survey, null) };
}

/**
 * Who has a stopped machine's volumes. Another's pod might write, so it is waited for. A holder of ours does not, but a volume that only one
 * node may have keeps the next holder on its node.
 */
function usersOf(
  { pods, name }: MachineFacts,
  disks: readonly BoundDisk[],
): { readonly foreign: string | null; readonly node: string | null } {
  let node: string | null = null;
  for (const pod of pods.filter((one) => !isOver(one))) {
    const used = disks.find(({ claim }) => pod.spec?.volumes?.some((volume) => volume.persistentVolumeClaim?.claimName === claim) === true);
    if (used === undefined) continue;
    const isOurs = isReadingHolder(pod);
    if (!isOurs || used.accessModes.includes("ReadWriteOncePod")) {
      return {
        foreign: `the pod ${pod.metadata.name} has the volume ${used.claim} of ${name}; the backup follows when it has ended`,
        node: null,
      };
    }
    if (!used.accessModes.some((mode) => mode === "ReadWriteMany" || mode === "ReadOnlyMany")) node = pod.spec?.nodeName ?? node;
  }
  return { foreign: null, node };
}

/** The holder of a backup: through that of a restore volumes are written. */
function isReadingHolder({ metadata: { labels, annotations } }: LauncherPod): boolean {
  return labels?.["thinstream.dev/work"] === "hold" && annotations?.["thinstream.dev/owner"]?.startsWith("RestoreRequest/") !== true;
}

function waitForVolumes({ notReady: volumes }: DiskSurvey): Obstacle | null {
  return volumes.length === 0 ? null : obstacle("VolumeNotReady", volumes.map(({ message }) => message).join("; "), 30);
}

function notesOf({ leftOut, unknown }: DiskSurvey, vmi: VirtualMachineInstance | null): Pick<ReadySource, "warnings" | "madeAnew"> {
  const missing = unknown.map((name) => `there is no disk ${name} to leave out`);
  const paused = vmi !== null && isTrue(vmi, "Paused") ? ["the guest is paused, so its file systems are not frozen"] : [];
  const lacking = leftOut.filter(({ reason }) => reason !== "Excluded" && reason !== "NotPersistent").map(({ message }) => message);
  const madeAnew = leftOut.filter(({ reason }) => reason === "NotPersistent").map(({ volume }) => volume);
  return { warnings: [...lacking, ...missing, ...paused], madeAnew };
}

function isTrue({ status }: VirtualMachineInstance, type: string): boolean {
  return status?.conditions?.some((one) => one.type === type && one.status === "True") === true;
}

function wait(reason: WaitReason, message: string): SourceDecision {
  return { kind: "wait", ...obstacle(reason, message) };
}

function refuse(reason: RefusalReason, message: string): SourceDecision {
  return { kind: "refuse", reason, message };
}
