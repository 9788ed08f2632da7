import type { VirtualMachineBackup } from "../../api/index.ts";
import type { ControllerContext } from "../context.ts";
import type { UnderWay } from "../plan/kubevirt/obstacles.ts";

const keptAnnotation = "thinstream.dev/source";

/** What a run under way reads from and what its end has to say, kept on its agent's pod so that a controller that starts anew knows it. */
export interface Kept {
  readonly underWay: UnderWay;
  readonly bitmaps: object | null;
  readonly doubts: Readonly<Record<string, string>>;
  readonly warnings: readonly string[];
  readonly madeAnew: readonly string[];
}

/** As annotations of the pod. */
export function keep(kept: Kept): Readonly<Record<string, string>> {
  return { [keptAnnotation]: JSON.stringify(kept) };
}

/** What was kept with the present attempt; null where its pod is gone. */
export function keptOf({ agents }: ControllerContext, { metadata, status }: VirtualMachineBackup): Kept | null {
  const pod = agents.workers(metadata.uid ?? "", "backup").find((one) => one.metadata.name === status?.agentPod?.name);
  const text = pod?.metadata.annotations?.[keptAnnotation];
  return text === undefined ? null : (JSON.parse(text) as Kept);
}
