import type { BackupWork, BackupWorkSource, FailureReason, SucceededResult, Work, WorkOrder } from "../../src/api/index.ts";
import { isRetryable } from "../../src/api/index.ts";
import type { Taken, Vm } from "../acceptance/vm.ts";
import type { World } from "../acceptance/world.ts";
import { type AgentEnd, PlacedOrder } from "./placed-order.ts";

/** An order for the repository of a world. */
export async function placeIn(world: World, work: Work, changes: Partial<WorkOrder> = {}): Promise<PlacedOrder> {
  const repository = { url: world.repo.url, keyFile: world.repo.keyFile };
  return await PlacedOrder.place(world.output("order"), work, { repository, ...changes });
}

/** The backup of a lab domain as the controller would order it. */
export function backupOf(
  vm: Vm,
  changes: Partial<BackupWork> = {},
  source: Partial<Extract<BackupWorkSource, { engine: "libvirt" }>> = {},
): BackupWork {
  const { lab, scratch } = vm.world;
  return {
    type: "backup",
    domain: null,
    vm: { name: `team-a/${vm.name}`, uid: vm.domain.uuid },
    level: "auto",
    excludeDisks: [],
    disks: null,
    compression: "lz4",
    source: {
      engine: "libvirt",
      uri: lab.uri,
      domain: vm.name,
      instanceUid: null,
      runtimeDir: "/var/tmp",
      scratchDir: scratch,
      diskNames: {},
      ...source,
    },
    freeze: { mode: "Auto", by: "libvirt", timeoutSeconds: 30 },
    captures: [],
    ...changes,
  };
}

/** What an order that must succeed says. */
export function succeeded(end: AgentEnd): SucceededResult {
  if (end.code !== 0 || end.result?.outcome !== "Succeeded")
    throw new Error(`the agent ended with ${end.code ?? end.signal}: ${JSON.stringify(end.result)}\n${end.stderr}`);
  return end.result;
}

/** Fails unless the order ended with this reason, and the right word about trying again. */
export function expectFailed(end: AgentEnd, reason: FailureReason, words: RegExp = /./): void {
  const { result } = end;
  const right =
    end.code === 1 &&
    result?.outcome === "Failed" &&
    result.reason === reason &&
    result.retryable === isRetryable(reason) &&
    words.test(result.message);
  if (!right) throw new Error(`not ${reason} ${words}: ended with ${end.code ?? end.signal}: ${JSON.stringify(result)}\n${end.stderr}`);
}

/** A point of an ordered backup beside the truth about the disks, so that it can be restored and compared. */
export function takenOf(vm: Vm, result: SucceededResult, references: ReadonlyMap<string, string>): Taken {
  const { id = "", level = "full", consistency = "crash" } = result.point ?? {};
  const disks = (result.disks ?? []).map((disk) => ({ ...disk, reason: "", zeroBytes: 0, newBytes: 0, compactedBytes: 0, mapBytes: 0 }));
  return { backup: { point: id, level, consistency, warnings: result.warnings, disks }, references, repo: vm.world.repo };
}
