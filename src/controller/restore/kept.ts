import type { ControllerContext } from "../context.ts";
import type { RestoreRequest } from "../../api/index.ts";
import type { MachinePatch, RestorePlan } from "../plan/kubevirt/restore-request.ts";

const keptAnnotation = "thinstream.dev/restore-plan";

/** Of a restore under way what its end needs, kept on its agent's pod so that a controller that starts anew knows it. No Secret is among it. */
export interface Kept {
  readonly repository: string;
  readonly namespace: string;
  readonly name: string;
  /** the machine was there before */
  readonly replaced: boolean;
  readonly claims: readonly string[];
  readonly revisions: readonly string[];
  readonly after: MachinePatch;
  readonly warnings: readonly string[];
}

export function keep(
  plan: RestorePlan,
  { repository, namespace, name }: Pick<Kept, "repository" | "namespace" | "name">,
): Readonly<Record<string, string>> {
  const { before, disks, revisions, after, warnings } = plan;
  const kept: Kept = {
    repository,
    namespace,
    name,
    replaced: before !== null,
    claims: disks.map(({ claim }) => claim),
    revisions,
    after,
    warnings,
  };
  return { [keptAnnotation]: JSON.stringify(kept) };
}

/** What was kept with the present attempt; null where its pod is gone. */
export function keptOf({ agents }: ControllerContext, { metadata, status }: RestoreRequest): Kept | null {
  const pod = agents.workers(metadata.uid ?? "", "restore").find((one) => one.metadata.name === status?.agentPod?.name);
  const text = pod?.metadata.annotations?.[keptAnnotation];
  return text === undefined ? null : (JSON.parse(text) as Kept);
}
