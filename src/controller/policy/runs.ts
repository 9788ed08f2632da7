import {
  annotations,
  apiVersion,
  type BackupPolicy,
  labels,
  labelValue,
  rfc3339,
  scheduledRunName,
  triggeredRunName,
  type VirtualMachineBackup,
} from "../../api/index.ts";
import type { Manifest } from "../../kube/index.ts";
import type { Caches } from "../context.ts";
import { identityOf } from "../identity.ts";
import type { DueRun, ScheduledMachine } from "../plan/schedule.ts";
import { isDone } from "../said.ts";
import { keyOf, type Selected } from "./select.ts";

/** Index of runs: by the policy that made them. */
export const BY_POLICY = "policy";

/** A machine with what its policy's runs tell of it. */
export interface Machine extends ScheduledMachine, Selected {
  /** its runs of this policy, newest first */
  readonly runs: readonly VirtualMachineBackup[];
}

/** The runs a policy made, by the machine's `<namespace>/<name>`; newest first. */
export function runsOf(policy: BackupPolicy, { backups }: Pick<Caches, "backups">): ReadonlyMap<string, readonly VirtualMachineBackup[]> {
  const own = backups.lister.byIndex(BY_POLICY, policy.metadata.name).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  const newestFirst = own.toSorted((a, b) => identityOf(b).createdAt.getTime() - identityOf(a).createdAt.getTime());
  return Map.groupBy(newestFirst, (run) =>
    keyOf({ namespace: identityOf(run).namespace, name: run.spec.source.virtualMachine?.name ?? "" }),
  );
}

/** @param missed the latest scheduled time that was counted as missed */
export function scheduledMachine(selected: Selected, runs: readonly VirtualMachineBackup[], missed: Date | null): Machine {
  const ticks = runs
    .map(({ metadata }) => Date.parse(metadata.annotations?.[annotations.scheduledAt] ?? ""))
    .filter((time) => !Number.isNaN(time));
  const last = Math.max(missed?.getTime() ?? -Infinity, ...ticks);
  return {
    ...selected,
    runs,
    lastTick: Number.isFinite(last) ? new Date(last) : null,
    lastTrigger: runs.map(({ metadata }) => metadata.annotations?.[annotations.trigger]).find((text) => text !== undefined) ?? null,
    active: runs.some((run) => !isDone(run)),
  };
}

/** The run that a policy makes for a machine: the same whoever asks and however often. */
export function runManifest(
  policy: BackupPolicy,
  { machine, tick }: DueRun<Machine>,
): Manifest & { readonly metadata: { readonly name: string; readonly namespace: string } } {
  const { spec, metadata } = policy;
  const { namespace, name } = machine;
  const trigger = spec.trigger?.manual ?? "";
  const runName = tick === null ? triggeredRunName(metadata.name, name, trigger) : scheduledRunName(metadata.name, name, tick);
  const { level, consistency, disks, compression, scratch, bandwidth, deadline, backoffLimit } = spec;
  return {
    metadata: {
      name: runName,
      namespace,
      labels: { [labels.policy]: metadata.name, [labels.repository]: labelValue(spec.repositoryRef.name), [labels.vm]: labelValue(name) },
      annotations: tick === null ? { [annotations.trigger]: trigger } : { [annotations.scheduledAt]: rfc3339(tick) },
      // So that runs go with their policy; restore points stay.
      ownerReferences: [{ apiVersion, kind: policy.kind, name: metadata.name, uid: identityOf(policy).uid, controller: true }],
    },
    spec: {
      source: { virtualMachine: { name } },
      repositoryRef: spec.repositoryRef,
      policyRef: { name: metadata.name },
      ...given({ level, consistency, disks, compression, scratch, bandwidth, deadline, backoffLimit }),
    },
  };
}

/** Runs that are done and of which there are newer ones enough. */
export function oldRuns(runs: readonly VirtualMachineBackup[], limit: number): readonly VirtualMachineBackup[] {
  return runs.filter((run) => isDone(run)).slice(limit);
}

function given(members: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}
