import type { BackupRepository, VirtualMachineBackup } from "../../api/index.ts";
import { conditionOf } from "../said.ts";
import type { RunResource } from "../runs/run.ts";
import { type Reading, type Sample, secondsOf } from "./reading.ts";
import type { Sight } from "./sight.ts";

const STATES = ["waiting", "stalled", "running", "succeeded", "failed"] as const;
type State = (typeof STATES)[number];

const stateHelp =
  "waiting (for its turn, a volume, a retry), stalled (somebody has to change something first), running (an agent works on it), succeeded, failed";

/** What the custom resources say of runs and repositories. */
export const objectReadings: readonly Reading[] = [
  {
    name: "backup_runs_by_state",
    type: "gauge",
    help: `VirtualMachineBackups that the cluster has now, by state: ${stateHelp}.`,
    labels: ["state"],
    read: ({ scene }) => (scene.caches === null ? [] : states(scene.caches.backups.lister.list())),
  },
  {
    name: "restore_runs_by_state",
    type: "gauge",
    help: "RestoreRequests that the cluster has now, by state as for backups.",
    labels: ["state"],
    read: ({ scene }) => (scene.caches === null ? [] : states(scene.caches.restores.lister.list())),
  },
  repository("ready", "1 where backups and restores can use a repository, by its Ready condition; else 0.", (one) =>
    conditionOf(one, "Ready")?.status === "True" ? 1 : 0,
  ),
  repository("points", "Restore points in a repository when its catalog was last read.", ({ status }) => status?.usage?.points),
  repository(
    "machines",
    "Virtual machines with a restore point in a repository when its catalog was last read.",
    ({ status }) => status?.usage?.machines,
  ),
  repository(
    "stored_bytes",
    "Bytes that the restore points of a repository put into the store when they were made.",
    ({ status }) => status?.usage?.storedBytes,
  ),
  repository("last_sync_timestamp_seconds", "When a repository's catalog was last read and mirrored in full; 0: never.", ({ status }) =>
    secondsOf(status?.lastSyncTime),
  ),
  repository(
    "bucket_bytes",
    "Bytes of all packs in a repository's bucket when it was last pruned.",
    ({ status }) => status?.prune?.packBytes,
  ),
  repository(
    "unneeded_bytes",
    "Bytes of packs that no restore point needs, and that a prune takes away when it has found them so twice.",
    ({ status }) => status?.prune?.waitingBytes,
  ),
  repository(
    "sparse_needless_bytes",
    "Bytes that no restore point needs, in packs of which others need less than 30 percent, when a repository was last pruned.",
    ({ status }) => status?.prune?.needlessBytes,
  ),
  repository(
    "last_prune_timestamp_seconds",
    "When a repository with a schedule for it was last pruned, or made where it never was.",
    ({ metadata, spec, status }) => (spec.maintenance.prune === undefined ? undefined : secondsOf(status?.prune?.lastSuccessTime ?? metadata.creationTimestamp)), // prettier-ignore
  ),
  repository(
    "last_check_timestamp_seconds",
    "When a repository with a schedule for it was last checked, or made where it never was.",
    ({ metadata, spec, status }) => (spec.maintenance.check === undefined ? undefined : secondsOf(status?.check?.lastSuccessTime ?? metadata.creationTimestamp)), // prettier-ignore
  ),
  repository(
    "exposed_objects",
    "Objects that restore points need and that are not locked, missing, overwritten or deleted, when locks were last extended.",
    ({ status }) => status?.lock?.exposed,
  ),
  repository(
    "damaged_points",
    "Restore points that lack something, as the last check found.",
    ({ status }) => status?.check?.damagedPoints,
  ),
];

function repository(name: string, help: string, valueOf: (repository: BackupRepository) => number | undefined): Reading {
  return {
    name: `repository_${name}`,
    type: "gauge",
    help,
    labels: ["repository"],
    *read({ scene }: Sight) {
      for (const one of scene.caches?.repositories.lister.list() ?? []) {
        const value = valueOf(one);
        if (value !== undefined) yield { labels: { repository: one.metadata.name }, value };
      }
    },
  };
}

function states(runs: Iterable<RunResource>): readonly Sample[] {
  const counts = new Map<State, number>(STATES.map((state) => [state, 0]));
  for (const run of runs) {
    const state = stateOf(run);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return [...counts].map(([state, value]) => ({ labels: { state }, value }));
}

function stateOf(run: RunResource | VirtualMachineBackup): State {
  const status = conditionOf(run, "Succeeded")?.status;
  if (status === "True") return "succeeded";
  if (status === "False") return "failed";
  if (conditionOf(run, "Stalled") !== undefined) return "stalled";
  return run.status?.agentPod === undefined ? "waiting" : "running";
}
