import type { VirtualMachineBackup } from "../../api/index.ts";
import type { ControllerContext } from "../context.ts";
import { planStarts, type Run } from "../plan/concurrency.ts";
import { identityOf } from "../identity.ts";
import { isDone } from "../said.ts";

/** Why a run may not start yet; null where it may. @param node it would run on, where that is known */
export function waitsForSlot(context: ControllerContext, run: VirtualMachineBackup, node: string | null): string | null {
  const { caches, agents, config } = context;
  const open = [...caches.backups.lister.list()].filter((one) => !isDone(one) && one.metadata.deletionTimestamp === undefined);
  const isUnderWay = (one: VirtualMachineBackup): boolean =>
    one.status?.agentPod !== undefined || agents.workers(one.metadata.uid ?? "", "backup").length > 0;
  const running = open
    .filter((one) => one.metadata.uid !== run.metadata.uid && isUnderWay(one))
    .map((one) => asRun(one, one.status?.nodeName ?? null));
  const own = asRun(run, node);
  const pending = open
    .filter((one) => one.metadata.uid !== run.metadata.uid && !isUnderWay(one) && !isHeldBack(one))
    .map((one) => asRun(one, null));
  const plan = planStarts([own, ...pending], running, {
    perPolicy: (policy) => caches.policies.lister.get(policy)?.spec.concurrency.perPolicy,
    perRepository: (repository) => caches.repositories.lister.get(repository)?.spec.limits.maxConcurrentRuns,
    perNode: (policy) => (policy === null ? undefined : caches.policies.lister.get(policy)?.spec.concurrency.perNode),
  });
  if (running.length >= config.maxAgents) return `waits until one of the ${running.length} runs under way ends`;
  return plan.waiting.find(({ run: { id } }) => id === own.id)?.message ?? null;
}

/** A run that waits for something else takes nobody's place in line. */
function isHeldBack({ status }: VirtualMachineBackup): boolean {
  const reason = status?.conditions?.find(({ type }) => type === "Succeeded")?.reason;
  return reason !== undefined && reason !== "WaitingForSlot" && reason !== "NotStarted";
}

function asRun(run: VirtualMachineBackup, node: string | null): Run {
  const { spec } = run;
  const { uid: id, createdAt } = identityOf(run);
  return { id, machine: machineName(run), policy: spec.policyRef?.name ?? null, node, repository: spec.repositoryRef.name, createdAt };
}

function machineName(run: VirtualMachineBackup): string {
  const { virtualMachine, libvirt } = run.spec.source;
  if (virtualMachine !== undefined) return `${identityOf(run).namespace}/${virtualMachine.name}`;
  return libvirt === undefined ? "" : `${libvirt.nodeName}:${libvirt.domain}`;
}
