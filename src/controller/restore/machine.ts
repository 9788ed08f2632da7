import type { KubeClient, KubeObject } from "../../kube/index.ts";
import type { Loose } from "../kinds.ts";
import { instances, machines, pods } from "../kinds.ts";
import { isFinal } from "../plan/kubevirt/facts.ts";
import type { LauncherPod, VirtualMachineInstance } from "../plan/kubevirt/objects.ts";
import { wantsToRun } from "../plan/kubevirt/obstacles.ts";
import { userOf } from "../plan/kubevirt/restore-use.ts";
import { type MachinePatch, restoreAnnotation } from "../plan/kubevirt/restore-request.ts";
import { find } from "./target-facts.ts";

type Saying = { readonly reason: string; readonly message: string };
type Place = { readonly namespace: string; readonly name: string };

export async function getMachine(client: KubeClient, ref: Place, signal: AbortSignal): Promise<Loose | null> {
  return await find(client, machines, { ref, signal });
}

/** Changes a machine as it was seen: annotations, and how it runs, whichever field said so before. */
export async function patchMachine(client: KubeClient, machine: Loose, patch: MachinePatch, signal: AbortSignal): Promise<void> {
  const { resourceVersion, uid } = machine.metadata;
  const { annotations, runStrategy } = patch;
  const spec = { runStrategy, ...("running" in (machine["spec"] as object) ? { running: null } : {}) };
  await client.patch(machines, machine.metadata, { metadata: { resourceVersion, uid, annotations }, spec }, { signal });
}

/** Why disks must not be written any further, or null. @param replaced whether the machine was there before; else none but our own may be there */
export async function restoreObstacle(
  client: KubeClient,
  {
    place,
    uid,
    claims,
    replaced,
  }: { readonly place: Place; readonly uid: string; readonly claims: readonly string[]; readonly replaced: boolean },
  signal: AbortSignal,
): Promise<Saying | null> {
  const vm = await getMachine(client, place, signal);
  const vmi = (await find(client, instances, { ref: place, signal })) as VirtualMachineInstance | null;
  const found = machineObstacle({ vm, vmi }, { title: `the VirtualMachine ${place.namespace}/${place.name}`, uid, replaced });
  if (found !== null) return found;
  const there: LauncherPod[] = [];
  for await (const page of client.list(pods, { namespace: place.namespace, signal }))
    there.push(...(page.items as readonly KubeObject[] as readonly LauncherPod[]));
  const used = userOf(there, claims, uid);
  return used === null
    ? null
    : { reason: "WaitingForVolume", message: `the pod ${used.pod} took the volume ${used.claim} while it was restored` };
}

function machineObstacle(
  { vm, vmi }: { readonly vm: Loose | null; readonly vmi: VirtualMachineInstance | null },
  { title, uid, replaced }: { readonly title: string; readonly uid: string; readonly replaced: boolean },
): Saying | null {
  if (vm !== null && !replaced && vm.metadata.annotations?.[restoreAnnotation] !== uid) {
    return { reason: "TargetExists", message: `${title} was made by somebody else while its disks were restored` };
  }
  const isUp = vmi !== null && !isFinal(vmi);
  if (!isUp && (vm === null || !wantsToRun({ vm, vmi }))) return null;
  return { reason: "TargetRunning", message: `${title} was started while its disks were restored: stop it, and the restore begins anew` };
}
