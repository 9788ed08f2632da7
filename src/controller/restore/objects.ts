import { isKubeError, type KubeClient } from "../../kube/index.ts";
import { errorText } from "../../lib/errors.ts";
import type { Loose } from "../kinds.ts";
import { objectKind } from "../kubevirt/object-kinds.ts";
import { restoreAnnotation, type RestorePlan, type RestoreStep } from "../plan/kubevirt/restore-request.ts";
import type { Preparation } from "../runs/run.ts";
import { find } from "./target-facts.ts";

type Barrier = Extract<Preparation, { readonly kind: "refuse" | "wait" }>;

/** Makes a plan's objects but the machine, in their order. Null once all are there. */
export async function createObjects(
  client: KubeClient,
  { steps, uid }: { readonly steps: readonly RestoreStep[]; readonly uid: string },
  signal: AbortSignal,
): Promise<Barrier | null> {
  for (const step of steps) {
    if (step.stage === "machine") continue;
    const barrier = await createObject(client, { step, uid }, signal);
    if (barrier !== null) return barrier;
  }
  return null;
}

/** Makes one object, or finds it made. @param uid the request's, by which it knows its own @returns what stands in the way, or null */
export async function createObject(
  client: KubeClient,
  { step, uid, dryRun = false }: { readonly step: RestoreStep; readonly uid: string; readonly dryRun?: boolean },
  signal: AbortSignal,
): Promise<Barrier | null> {
  const { apiVersion: _apiVersion, kind: kindName, metadata, ...fields } = step.object;
  const { name = "", namespace = "" } = metadata;
  const kind = objectKind(kindName);
  const title = `the ${kindName} ${namespace}/${name}`;
  const manifest = { ...fields, metadata: { name, namespace, labels: metadata.labels ?? {}, annotations: metadata.annotations ?? {} } };
  try {
    // Fields of another release of KubeVirt go, as they do for kubectl.
    await client.create(kind, manifest, { signal, dryRun, fieldValidation: "Warn" });
    return null;
  } catch (thrown) {
    if (isKubeError(thrown, "already-exists")) return await ownBarrier(client, { step, uid, title }, signal);
    if (!isKubeError(thrown, "invalid", "forbidden", "not-found")) throw thrown;
    const message = `the API server does not take ${title}: ${errorText(thrown)}`;
    return { kind: "wait", reason: "CreatingObjects", message, againInMs: 30_000 };
  }
}

async function ownBarrier(
  client: KubeClient,
  { step, uid, title }: { readonly step: RestoreStep; readonly uid: string; readonly title: string },
  signal: AbortSignal,
): Promise<Barrier | null> {
  const { name = "", namespace = "" } = step.object.metadata;
  if (step.ifExists === "keep") return null;
  const there = await find(client, objectKind(step.object.kind), { ref: { namespace, name }, signal });
  if (there === null) return { kind: "wait", reason: "CreatingObjects", message: `${title} is being made`, againInMs: 1_000 };
  if (there.metadata.annotations?.[restoreAnnotation] === uid) return null;
  const message = `there is ${title} already, which is not of this restore: remove it, or restore under another name`;
  return { kind: "refuse", reason: "TargetExists", message, final: false };
}

/** Whether the API server would take the machine: asked before hours of copying, not after. */
export async function tryMachine(
  client: KubeClient,
  { plan, uid }: { readonly plan: RestorePlan; readonly uid: string },
  signal: AbortSignal,
): Promise<Barrier | null> {
  const step = plan.steps.find(({ stage }) => stage === "machine");
  return step === undefined ? null : await createObject(client, { step, uid, dryRun: true }, signal);
}

/** Makes the ControllerRevisions the machine's, so that they go with it. */
export async function ownRevisions(
  client: KubeClient,
  { names, machine }: { readonly names: readonly string[]; readonly machine: Loose },
  signal: AbortSignal,
): Promise<void> {
  const { name, namespace = "", uid = "" } = machine.metadata;
  const owner = { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name, uid, controller: true, blockOwnerDeletion: true };
  for (const revision of names) {
    const kind = objectKind("ControllerRevision");
    const there = await find(client, kind, { ref: { namespace, name: revision }, signal });
    if (there === null || (there.metadata.ownerReferences ?? []).length > 0) continue;
    const { resourceVersion } = there.metadata;
    await client.patch(kind, there.metadata, { metadata: { resourceVersion, ownerReferences: [owner] } }, { signal });
  }
}
