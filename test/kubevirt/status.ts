import { QEMU_USER } from "./launcher-image.ts";
import type { Machine } from "./machine.ts";
import type { VmObject } from "./objects.ts";
import { bootsGuest, tracksBlocks } from "./objects.ts";

/** An instance's status before it has a pod. */
export function initialStatus(vm: VmObject): object {
  return {
    phase: "Pending",
    runtimeUser: QEMU_USER,
    ...(tracksBlocks(vm) ? { changedBlockTracking: { state: "Initializing" } } : {}),
    conditions: [{ type: "Ready", status: "False", reason: "GuestNotRunning" }],
  };
}

/** The status of an instance that runs, as KubeVirt writes it; with null for what ends with a migration. */
export function runningStatus({ vm, pod, node, disks, launcher }: Machine): object {
  const agent = bootsGuest(vm) ? [{ type: "AgentConnected", status: "True" }] : [];
  return {
    phase: "Running",
    nodeName: node,
    runtimeUser: QEMU_USER,
    // A merge patch would keep the pods of before.
    activePods: { [pod.metadata.uid]: node },
    launcherContainerImageVersion: pod.spec.containers[0]?.image,
    machine: { type: "pc" },
    virtualMachineRevisionName: `revision-start-vm-${vm.metadata.uid}-1`,
    ...(tracksBlocks(vm) ? { changedBlockTracking: { state: "Enabled" } } : {}),
    conditions: [{ type: "Ready", status: "True" }, { type: "LiveMigratable", status: "True" }, ...agent], // prettier-ignore
    volumeStatus: disks.map(({ volume, claim, mode, size }) => ({
      name: volume,
      target: launcher.spec.disks.find(({ alias }) => alias === `ua-${volume}`)?.name ?? "",
      persistentVolumeClaimInfo: {
        claimName: claim,
        accessModes: ["ReadWriteOnce"],
        volumeMode: mode,
        capacity: { storage: String(size) },
        requests: { storage: String(size) },
        ...(mode === "Filesystem" ? { filesystemOverhead: "0.055" } : {}),
      },
    })),
  };
}
