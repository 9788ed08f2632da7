import type { VirtualMachineBackup } from "../../api/index.ts";
import { BY_RUN } from "../agents/agents.ts";
import type { ControllerContext } from "../context.ts";
import { podState } from "../dispatch/pod-state.ts";
import { barrierOf, planStarts, type Run } from "../plan/concurrency.ts";
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

/** Index of runs: those that have an agent by their own word, in one group. */
export const WITH_AGENT = "with-agent";

/** The group of a run in that index. */
export function withAgent(run: VirtualMachineBackup): readonly string[] {
  return isLive(run) && run.status?.agentPod !== undefined ? [WITH_AGENT] : [];
}

/** Why a run may not start yet; null where it may. @param node it would run on, where that is known */
export function waitsForSlot(context: ControllerContext, run: VirtualMachineBackup, node: string | null): string | null {
  const { caches, config } = context;
  const own = asRun(run, node);
  const underWay = runsUnderWay(context);
  underWay.delete(own.id);
  const running = [...underWay.values()].map((one) => asRun(one, one.status?.nodeName ?? null));
  const limits = {
    inAll: config.maxAgents,
    perPolicy: (policy: string) => caches.policies.lister.get(policy)?.spec.concurrency.perPolicy,
    perRepository: (repository: string) => caches.repositories.lister.get(repository)?.spec.limits.maxConcurrentRuns,
    perNode: (policy: string | null) => (policy === null ? undefined : caches.policies.lister.get(policy)?.spec.concurrency.perNode),
  };
  // Of a thousand runs that are due at once most wait for those under way, whoever else waits: what each of them costs is the few that run, and not all.
  const barrier = barrierOf(own, running, limits);
  if (barrier !== null) return barrier.message;
  const pending = [...caches.backups.lister.list()].filter(
    (one) => isLive(one) && !underWay.has(one.metadata.uid ?? "") && !isHeldBack(one),
  );
  const others = pending.map((one) => asRun(one, null)).filter(({ id }) => id !== own.id);
  const plan = planStarts([own, ...others], running, limits);
  return plan.waiting.find(({ run: { id } }) => id === own.id)?.message ?? null;
}

/** Runs that have their place, by UID. */
function runsUnderWay(context: ControllerContext): Map<string, VirtualMachineBackup> {
  const { backups, agentPods } = context.caches;
  const found = new Map(backups.lister.byIndex(WITH_AGENT, WITH_AGENT).map((run) => [run.metadata.uid ?? "", run]));
  for (const uid of agentPods.lister.indexValues(BY_RUN)) {
    const owner = agentPods.lister.byIndex(BY_RUN, uid)[0]?.metadata.annotations?.["thinstream.dev/owner"] ?? "";
    const run = backups.lister.get(owner.slice(owner.indexOf("/") + 1));
    if (run !== undefined && run.metadata.uid === uid && isLive(run) && isUnderWay(context, run)) found.set(uid, run);
  }
  return found;
}

function isLive(run: VirtualMachineBackup): boolean {
  return !isDone(run) && run.metadata.deletionTimestamp === undefined;
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
