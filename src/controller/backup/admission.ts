import type { VirtualMachineBackup } from "../../api/index.ts";
import type { ControllerContext } from "../context.ts";
import { podState } from "../dispatch/pod-state.ts";
import { clusterLimit, planStarts, type Run } from "../plan/concurrency.ts";
import { identityOf } from "../identity.ts";
import type { Pod } from "../kinds.ts";
import { isDone } from "../said.ts";

/** milliseconds after which a holder that does not get its volumes keeps nobody else waiting */
const HOLDER_MS = 5 * 60_000;

/** milliseconds within which the cache knows of an agent or a holder that was made */
const CLAIM_MS = 30_000;

/**
 * Who begins on which machine: two runs of one that become ready at the same moment would both begin, before the cache knows of the first one's agent, and one
 * would lose an attempt to the other's job. A controller that starts anew has nobody who is about to begin.
 */
export class Claims {
  readonly #claims = new Map<string, { readonly run: VirtualMachineBackup; readonly at: number }>();

  /** Whether the run may begin on its machine, which then is its own for a while, or until it is done. */
  take({ caches, now }: Pick<ControllerContext, "caches" | "now">, run: VirtualMachineBackup): boolean {
    const at = now().getTime();
    const holds = (claim: { readonly run: VirtualMachineBackup; readonly at: number }): boolean => {
      const known = caches.backups.lister.get(`${identityOf(claim.run).namespace}/${claim.run.metadata.name}`);
      return at - claim.at < CLAIM_MS && known !== undefined && !isDone(known) && known.metadata.uid === claim.run.metadata.uid;
    };
    for (const [machine, claim] of this.#claims) if (!holds(claim)) this.#claims.delete(machine);
    const machine = machineName(run);
    const claim = this.#claims.get(machine);
    if (claim !== undefined && claim.run.metadata.uid !== run.metadata.uid) return false;
    this.#claims.set(machine, { run, at });
    return true;
  }
}

/** Why a run may not start yet; null where it may. @param node it would run on, where that is known */
export function waitsForSlot(context: ControllerContext, run: VirtualMachineBackup, node: string | null): string | null {
  const { caches, config } = context;
  const others = [...caches.backups.lister.list()].filter(
    (one) => !isDone(one) && one.metadata.deletionTimestamp === undefined && one.metadata.uid !== run.metadata.uid,
  );
  const { running = [], pending = [] } = Object.groupBy(others, (one) => (isUnderWay(context, one) ? "running" : "pending"));
  if (running.length >= config.maxAgents) return clusterLimit(config.maxAgents).message;
  const own = asRun(run, node);
  const plan = planStarts(
    [own, ...pending.filter((one) => !isHeldBack(one)).map((one) => asRun(one, null))],
    running.map((one) => asRun(one, one.status?.nodeName ?? null)),
    {
      inAll: config.maxAgents,
      perPolicy: (policy) => caches.policies.lister.get(policy)?.spec.concurrency.perPolicy,
      perRepository: (repository) => caches.repositories.lister.get(repository)?.spec.limits.maxConcurrentRuns,
      perNode: (policy) => (policy === null ? undefined : caches.policies.lister.get(policy)?.spec.concurrency.perNode),
    },
  );
  return plan.waiting.find(({ run: { id } }) => id === own.id)?.message ?? null;
}

/** Whether a run has its place: from when a holder is there to get its volumes, or a thousand stopped machines would be mounted at once. */
function isUnderWay({ agents, now }: ControllerContext, run: VirtualMachineBackup): boolean {
  const { uid } = identityOf(run);
  if (run.status?.agentPod !== undefined || agents.workers(uid, "backup").length > 0) return true;
  const isAtIt = (holder: Pod): boolean => now().getTime() - identityOf(holder).createdAt.getTime() < HOLDER_MS;
  return agents.workers(uid, "hold").some((holder) => podState(holder).phase === "running" || isAtIt(holder));
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

/** `<namespace>/<name>`, or `<node>:<domain>`. */
export function machineName(run: VirtualMachineBackup): string {
  const { virtualMachine, libvirt } = run.spec.source;
  if (virtualMachine !== undefined) return `${identityOf(run).namespace}/${virtualMachine.name}`;
  return libvirt === undefined ? "" : `${libvirt.nodeName}:${libvirt.domain}`;
}
