import { isFinal, type MachineFacts, type Obstacle, obstacle } from "./facts.ts";
import type { KubevirtBackup, VirtualMachine, VirtualMachineInstance } from "./objects.ts";

/** What forbids a job in the libvirt of a running instance: at its beginning, and as long as it goes on. */
export function runningObstacle(facts: MachineFacts, vmi: VirtualMachineInstance): Obstacle | null {
  if (vmi.metadata.deletionTimestamp !== undefined) return obstacle("Stopping", `${facts.name} is being stopped`);
  return migrationObstacle(facts, vmi) ?? foreignBackup(facts) ?? storageObstacle(facts);
}

/** What forbids reading a machine's volumes, running or not. */
export function storageObstacle({ name, vm }: MachineFacts): Obstacle | null {
  const { restoreInProgress, snapshotInProgress } = vm?.status ?? {};
  if (restoreInProgress !== undefined) {
    return obstacle("RestoreInProgress", `KubeVirt restores ${name} from a snapshot (${restoreInProgress}); the backup follows`, 30);
  }
  if (snapshotInProgress !== undefined) {
    return obstacle("SnapshotInProgress", `KubeVirt takes the snapshot ${snapshotInProgress} of ${name}; the backup follows`);
  }
  return null;
}

/** A migration needs the domain's job lock that a backup holds, so one that is under way or wanted comes first. */
function migrationObstacle({ name, migrations }: MachineFacts, vmi: VirtualMachineInstance): Obstacle | null {
  const { migrationState, evacuationNodeName } = vmi.status ?? {};
  if (migrationState?.startTimestamp !== undefined && migrationState.completed !== true && migrationState.failed !== true) {
    const to = migrationState.targetNode === undefined ? "" : ` to ${migrationState.targetNode}`;
    return obstacle("Migrating", `${name} migrates${to}; the backup follows`);
  }
  if (evacuationNodeName !== undefined && evacuationNodeName !== "") {
    return obstacle("Evacuating", `${name} has to leave node ${evacuationNodeName}, which is being drained; the backup follows`, 30);
  }
  const pending = migrations.find(
    (one) => one.spec?.vmiName === vmi.metadata.name && !["Succeeded", "Failed"].includes(one.status?.phase ?? ""),
  );
  if (pending === undefined) return null;
  return obstacle("MigrationPending", `the migration ${pending.metadata.name} of ${name} is about to begin; the backup follows`);
}

/** KubeVirt takes the end of any job for its own's, and freezes the guest while it waits for another's, so two never go on at once. */
function foreignBackup(facts: MachineFacts): Obstacle | null {
  const status = facts.vmi?.status?.changedBlockTracking?.backupStatus;
  const names = facts.backups
    .filter((one) => !isBackupOver(one) && machineOf(one, facts) === facts.name)
    .map(({ metadata }) => metadata.name);
  if (status !== undefined && status.completed !== true) names.push(status.backupName ?? "of unknown name");
  const [backup] = names;
  if (backup === undefined) return null;
  return obstacle(
    "ForeignBackup",
    `KubeVirt's own backup ${backup} of ${facts.name} is under way (backup.kubevirt.io); this one follows when it is done`,
    30,
  );
}

/** KubeVirt 1.8 says `Done`, 1.9 and later `Complete` or `Failed`. One without conditions has just been made. */
function isBackupOver({ status }: KubevirtBackup): boolean {
  return (status?.conditions ?? []).some((one) => ["Done", "Complete", "Failed"].includes(one.type) && one.status === "True");
}

function machineOf({ spec }: KubevirtBackup, { trackers }: MachineFacts): string | undefined {
  if (spec?.source?.kind !== "VirtualMachineBackupTracker") return spec?.source?.name;
  return trackers.find(({ metadata }) => metadata.name === spec.source?.name)?.spec?.source?.name;
}

/** A run that is under way: which instance and pod, or which holder, it reads from. */
export type UnderWay = { readonly engine: "libvirt"; readonly instanceUid: string; readonly podUid: string } | { readonly engine: "image" };

/** Why a run that is under way has to stop at once, or null. It tries again when the reason has passed. */
export function mustAbort(facts: MachineFacts, run: UnderWay): Obstacle | null {
  const { vm, vmi, name } = facts;
  if (vm === null || vm.metadata.deletionTimestamp !== undefined) {
    return obstacle("BeingDeleted", `${name} is being deleted`);
  }
  return run.engine === "image" ? stoppedAbort(facts) : launcherAbort(facts, vmi, run);
}

function launcherAbort(facts: MachineFacts, vmi: VirtualMachineInstance | null, run: UnderWay & { engine: "libvirt" }): Obstacle | null {
  if (vmi === null || vmi.metadata.uid !== run.instanceUid || isFinal(vmi)) {
    return obstacle("Stopping", `${facts.name} was stopped while it was backed up`);
  }
  const pod = facts.pods.find(({ metadata }) => metadata.uid === run.podUid);
  if (pod === undefined || pod.metadata.deletionTimestamp !== undefined) {
    return obstacle("LauncherNotReady", `the virt-launcher pod of ${facts.name} went away while it was backed up`);
  }
  return runningObstacle(facts, vmi);
}

/** A stopped machine's volumes are given up as soon as it wants to start: where they are held, it could not have them. */
function stoppedAbort(facts: MachineFacts): Obstacle | null {
  if ((facts.vmi !== null && !isFinal(facts.vmi)) || wantsToRun(facts)) {
    return obstacle("Starting", `${facts.name} was started while its volumes were read`);
  }
  return storageObstacle(facts);
}

/** Whether KubeVirt is about to start a machine that has no running instance. */
export function wantsToRun({ vm, vmi }: Pick<MachineFacts, "vm" | "vmi">): boolean {
  if (vm?.status?.stateChangeRequests?.some(({ action }) => action === "Start") === true) return true;
  switch (strategyOf(vm)) {
    case "Always":
      return true;
    case "RerunOnFailure":
      return vmi === null || vmi.status?.phase === "Failed";
    case "Once":
      return vmi === null;
    default:
      return false;
  }
}

function strategyOf(vm: VirtualMachine | null): string {
  return vm?.spec?.runStrategy ?? (vm?.spec?.running === true ? "Always" : "Halted");
}
