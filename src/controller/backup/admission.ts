import type { VirtualMachineBackup } from "../../api/index.ts";
import type { ControllerContext } from "../context.ts";
import { planStarts, type Run } from "../plan/concurrency.ts";
import { identityOf } from "../identity.ts";
import { isDone } from "../said.ts";

/** milliseconds that a run which may start keeps its place, until it is seen under way */
const PLACE_MS = 30_000;

/** Which runs may start. */
export class Admission {
  readonly #context: ControllerContext;
  /** By UID: runs that may start, and whose agents the cache does not have yet. */
  readonly #places = new Map<string, { readonly place: Run; readonly at: number }>();

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  /** Why a run may not start yet; null where it may, and has its place from now on. @param node it would run on, where that is known */
  waits(run: VirtualMachineBackup, node: string | null): string | null {
    const own = asRun(run, node);
    const now = performance.now();
    for (const [id, { at }] of this.#places) if (id === own.id || now - at > PLACE_MS) this.#places.delete(id);
    const message = this.#waits(own);
    if (message === null) this.#places.set(own.id, { place: own, at: now });
    return message;
  }

  #waits(own: Run): string | null {
    const { caches, config } = this.#context;
    const others = [...caches.backups.lister.list()].filter(
      (one) => !isDone(one) && one.metadata.deletionTimestamp === undefined && one.metadata.uid !== own.id,
    );
    const running = others.flatMap((one) => this.#placeOf(one) ?? []);
    const taken = new Set(running.map(({ id }) => id));
    const pending = others.filter((one) => !isHeldBack(one) && !taken.has(one.metadata.uid ?? "")).map((one) => asRun(one, null));
    const plan = planStarts([own, ...pending], running, {
      perPolicy: (policy) => caches.policies.lister.get(policy)?.spec.concurrency.perPolicy,
      perRepository: (repository) => caches.repositories.lister.get(repository)?.spec.limits.maxConcurrentRuns,
      perNode: (policy) => (policy === null ? undefined : caches.policies.lister.get(policy)?.spec.concurrency.perNode),
    });
    if (running.length >= config.maxAgents) return `waits until one of the ${running.length} runs under way ends`;
    return plan.waiting.find(({ run: { id } }) => id === own.id)?.message ?? null;
  }

  /** Of a run under way, or about to be. */
  #placeOf(run: VirtualMachineBackup): Run | null {
    const uid = run.metadata.uid ?? "";
    const isUnderWay = run.status?.agentPod !== undefined || this.#context.agents.workers(uid, "backup").length > 0;
    return isUnderWay ? asRun(run, run.status?.nodeName ?? null) : (this.#places.get(uid)?.place ?? null);
  }
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
