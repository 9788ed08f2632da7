import type { RestoreRequest, RestoreWork } from "../../api/index.ts";
import { ensureHolder } from "../agents/holder.ts";
import type { ControllerContext } from "../context.ts";
import { claims, volumes } from "../kinds.ts";
import type { Claim, Volume } from "../plan/kubevirt/objects.ts";
import { holderMounts, type HostMount, holderVolumes, type PlacedDisk } from "../plan/kubevirt/host-paths.ts";
import { placeOf } from "../plan/kubevirt/place.ts";
import type { RestoredDisk } from "../plan/kubevirt/restore-request.ts";
import type { Preparation } from "../runs/run.ts";
import { find } from "./target-facts.ts";

/** Volumes that are to be written, and who for. */
interface Wanted {
  readonly run: RestoreRequest;
  readonly namespace: string;
  readonly repository: string;
  readonly disks: readonly RestoredDisk[];
}

type HeldDisks =
  | { readonly kind: "held"; readonly nodeName: string; readonly mounts: readonly HostMount[] }
  | Extract<Preparation, { readonly kind: "refuse" | "wait" }>;

/** The volumes' mounts for an agent, once a holder in their namespace has them. */
export async function holdDisks(context: ControllerContext, wanted: Wanted, signal: AbortSignal): Promise<HeldDisks> {
  const { run, namespace, repository, disks } = wanted;
  const held = disks.map(({ disk, claim, mode }) => ({ volume: disk, claim, mode }));
  const holder = await ensureHolder(context, { owner: run, namespace, repository, volumes: held, node: null, readOnly: false }, signal);
  if (holder.kind === "wait") return wait(holder.message);
  const placed: PlacedDisk[] = [];
  for (const disk of disks) {
    const place = await placeOfClaim(context, { namespace, disk }, signal);
    if (typeof place !== "string") return place;
    placed.push({ volume: disk.disk, mode: disk.mode, place });
  }
  return {
    kind: "held",
    nodeName: holder.nodeName,
    mounts: holderMounts(`${context.config.kubeletRoot}/pods/${holder.podUid}`, placed, false),
  };
}

async function placeOfClaim(
  { client }: ControllerContext,
  { namespace, disk: { claim: name, disk, mode } }: { readonly namespace: string; readonly disk: RestoredDisk },
  signal: AbortSignal,
): Promise<string | Extract<Preparation, { readonly kind: "refuse" | "wait" }>> {
  const claim = (await find(client, claims, { ref: { namespace, name }, signal })) as Claim | null;
  const bound = claim?.spec?.volumeName;
  const volume = bound === undefined ? null : ((await find(client, volumes, { ref: { name: bound }, signal })) as Volume | null);
  if (volume === null) return wait(`the PersistentVolumeClaim ${namespace}/${name} of disk ${disk} is not bound`);
  const place = placeOf(volume, mode);
  if (place !== null) return place;
  const message = `disk ${disk} lies in the PersistentVolume ${bound ?? ""}, of a kind whose place on a node is not known: name another StorageClass`;
  return { kind: "refuse", reason: "TargetNotSupported", message, final: false };
}

/** The agent's work on them. */
export function restoreWork(point: string, disks: readonly RestoredDisk[]): RestoreWork {
  return {
    type: "restore",
    point,
    disks: disks.map(({ disk, mode }) => ({
      disk,
      path: mode === "Block" ? `${holderVolumes}/${disk}` : `${holderVolumes}/${disk}/disk.img`,
      mode,
    })),
  };
}

function wait(message: string): Extract<Preparation, { readonly kind: "wait" }> {
  return { kind: "wait", reason: "WaitingForVolume", message, againInMs: 3_000 };
}
