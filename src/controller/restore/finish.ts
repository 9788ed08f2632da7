import type { RestoreRequest, SucceededResult } from "../../api/index.ts";
import { accessOf } from "../access.ts";
import type { ControllerContext } from "../context.ts";
import { identityOf } from "../identity.ts";
import type { Loose } from "../kinds.ts";
import { restoreAnnotation, restoredAnnotation } from "../plan/kubevirt/restore-request.ts";
import { planRestore } from "../plan/kubevirt/restore.ts";
import type { Completion } from "../runs/run.ts";
import { type Inspected, type Inspections, pointFacts } from "./inspection.ts";
import type { Kept } from "./kept.ts";
import { getMachine, patchMachine } from "./machine.ts";
import { createObject, ownRevisions } from "./objects.ts";
import { gatherTarget } from "./target-facts.ts";
import { wishOf } from "./wish.ts";

/** A restore whose disks are written. */
export interface Written {
  readonly run: RestoreRequest;
  readonly result: SucceededResult;
  readonly kept: Kept;
  readonly inspections: Inspections;
}

/** Makes the machine, stopped; lets its volumes go; then lets it run. Each step may have been done before. */
export async function finishRestore(context: ControllerContext, written: Written, signal: AbortSignal): Promise<Completion> {
  const { client } = context;
  const { run, result, kept } = written;
  const title = `the VirtualMachine ${kept.namespace}/${kept.name}`;
  const machine = await getMachine(client, kept, signal);
  if (machine === null) return await makeMachine(context, { written, title }, signal);
  const { uid } = identityOf(run);
  const { annotations = {} } = machine.metadata;
  const isOurs = kept.replaced || annotations[restoreAnnotation] === uid;
  if (!isOurs) return failed("TargetExists", `${title} was made by somebody else while its disks were restored`);
  if (annotations[restoredAnnotation] !== uid) {
    const held = await letGo(context, { run, machine, kept }, signal);
    if (held !== null) return held;
    await patchMachine(client, machine, kept.after, signal);
  }
  const status = { vmRef: { namespace: kept.namespace, name: kept.name } };
  const runs = kept.after.runStrategy === "Halted" ? "it is stopped" : `its runStrategy is ${kept.after.runStrategy}`;
  return { kind: "done", message: `${result.message}; ${title}: ${runs}`, warnings: [...kept.warnings, ...result.warnings], status };
}

/** What the restore is of may have left this controller's memory: then it is asked for again. */
async function makeMachine(
  context: ControllerContext,
  { written, title }: { readonly written: Written; readonly title: string },
  signal: AbortSignal,
): Promise<Completion> {
  const { run, kept, inspections } = written;
  if (kept.replaced) return failed("TargetExists", `${title} was deleted while its disks were restored`);
  const access = accessOf(context, kept.repository, run.metadata.namespace ?? "");
  if ("refusal" in access) return { kind: "wait", ...access.refusal };
  const { pointId = "", attempts: attempt = 1 } = run.status ?? {};
  const looked = await inspections.look({ run, attempt, repository: access.repository, pointId }, signal);
  if (looked.kind !== "inspected") return { kind: "wait", reason: looked.reason, message: looked.message };
  return (await createMachine(context, { written, inspected: looked.inspected }, signal)) ?? wait(`${title} is made`);
}

/** Null once it is made. The plan is made anew: since its first object the cluster may have changed. */
async function createMachine(
  context: ControllerContext,
  { written: { run, kept }, inspected }: { readonly written: Written; readonly inspected: Inspected },
  signal: AbortSignal,
): Promise<Completion | null> {
  const { virtualMachine } = run.spec.target;
  const { point, bundle } = inspected;
  if (virtualMachine === undefined || bundle === null) throw new TypeError("a restore without a machine has no such end");
  const wish = wishOf(run, virtualMachine);
  const facts = await gatherTarget(context.client, kept, bundle, signal);
  const plan = planRestore(wish, pointFacts(point, bundle), facts);
  if (plan.kind === "wait") return { kind: "wait", reason: "WaitingForVolume", message: plan.message };
  if (plan.kind === "refuse") return failed(plan.reason, plan.message);
  const step = plan.kind === "restore" ? plan.steps.find(({ stage }) => stage === "machine") : undefined;
  const barrier = step === undefined ? null : await createObject(context.client, { step, uid: wish.uid }, signal);
  if (barrier === null) return null;
  const { kind, reason, message } = barrier;
  return kind === "wait" ? { kind, reason, message } : failed(reason, message);
}

/** The volumes are to be free before the machine may start; its revisions are its own from then on. */
async function letGo(
  context: ControllerContext,
  { run, machine, kept }: { readonly run: RestoreRequest; readonly machine: Loose; readonly kept: Kept },
  signal: AbortSignal,
): Promise<Completion | null> {
  const { agents, client } = context;
  await ownRevisions(client, { names: kept.revisions, machine }, signal);
  const holders = agents.workers(identityOf(run).uid, "hold");
  for (const pod of holders) await agents.removePod(pod, signal);
  return holders.length === 0 ? null : wait("the holder of the volumes ends, and then the machine may start");
}

function wait(message: string): Completion {
  return { kind: "wait", reason: "CreatingObjects", message };
}

/** The next attempt says whether there is any. */
function failed(reason: string, message: string): Completion {
  return { kind: "failed", reason, message, retryable: true };
}
