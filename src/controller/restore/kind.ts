import { type RestoreRequest, rfc3339, type SucceededResult } from "../../api/index.ts";
import { agentObjects } from "../agents/objects.ts";
import type { ControllerContext } from "../context.ts";
import { identityOf } from "../identity.ts";
import { restoreRequests } from "../kinds.ts";
import type { Bundle } from "../plan/kubevirt/bundle.ts";
import { refusalOfPoint } from "../plan/kubevirt/choose-point.ts";
import type { VirtualMachine } from "../plan/kubevirt/objects.ts";
import type { RestoreDecision, RestorePlan, RestoreWish } from "../plan/kubevirt/restore-request.ts";
import { decideExisting, planRestore } from "../plan/kubevirt/restore.ts";
import { deadlineOf } from "../runs/attempt.ts";
import type { Completion, Preparation, RunKind, Stop } from "../runs/run.ts";
import { isDone } from "../said.ts";
import { finishRestore } from "./finish.ts";
import { holdDisks, restoreWork } from "./hold.ts";
import { type Inspected, Inspections, pointFacts } from "./inspection.ts";
import { keep, keptOf } from "./kept.ts";
import { getMachine, patchMachine, restoreObstacle } from "./machine.ts";
import { createObjects, tryMachine } from "./objects.ts";
import { findPoint, type Found } from "./point.ts";
import { gatherTarget } from "./target-facts.ts";
import { reasonOf, refusalOfPlan } from "./trouble.ts";
import { standingOf, wishOf } from "./wish.ts";

/** What a run restores, once that is known. */
interface Restore {
  readonly run: RestoreRequest;
  readonly attempt: number;
  readonly wish: RestoreWish;
  readonly found: Found;
}

/** Restores as runs. */
export class RestoreKind implements RunKind<RestoreRequest> {
  readonly resource = restoreRequests;
  readonly work = "restore";
  // A machine that the second has finished would be written to by the first.
  readonly mayOverlap = false;
  readonly finalStops = [];
  readonly words = {
    busy: "Restoring",
    action: "Restore",
    started: "RestoreStarted",
    succeeded: "RestoreSucceeded",
    failed: "RestoreFailed",
  };
  readonly #context: ControllerContext;
  readonly #inspections: Inspections;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#inspections = new Inspections(context);
  }

  known(key: string): RestoreRequest | undefined {
    return this.#context.caches.restores.lister.get(key);
  }

  async prepare(run: RestoreRequest, attempt: number, signal: AbortSignal): Promise<Preparation> {
    const { virtualMachine } = run.spec.target;
    const wish = virtualMachine === undefined ? null : wishOf(run, virtualMachine);
    const existing = wish === null ? null : await this.#existing(run, wish, signal);
    if (existing !== null) return existing;
    const found = findPoint(this.#context, run);
    if (found.kind !== "found") return found;
    const full = this.#waitsForSlot(run);
    if (full !== null) return { kind: "wait", reason: "WaitingForSlot", message: full, againInMs: 15_000 };
    const { repository, pointId } = found;
    const looked = await this.#inspections.look({ run, attempt, repository, pointId }, signal);
    if (looked.kind !== "inspected") return looked;
    if (wish === null) throw new TypeError("a request without a machine was refused before");
    return await this.#plan({ run, attempt, wish, found }, looked.inspected, signal);
  }

  /** What follows from the machine that is there, before anything is read; only where the request may ask for it. */
  async #existing(run: RestoreRequest, wish: RestoreWish, signal: AbortSignal): Promise<Preparation | null> {
    const { namespace, home } = standingOf(run, this.#context.config.namespace);
    if (wish.namespace !== namespace && namespace !== home) return null;
    const vm = (await getMachine(this.#context.client, wish, signal)) as VirtualMachine | null;
    const decided = decideExisting(wish, vm);
    return decided === null ? null : end(decided, wish, vm !== null);
  }

  #waitsForSlot(run: RestoreRequest): string | null {
    const { caches, config } = this.#context;
    const others = [...caches.restores.lister.list()].filter((one) => one.metadata.uid !== run.metadata.uid && isUnderWay(one));
    return others.length < config.maxAgents ? null : `waits until one of the ${others.length} restores under way ends`;
  }

  async #plan(restore: Restore, { point, bundle }: Inspected, signal: AbortSignal): Promise<Preparation> {
    const { run, wish, found } = restore;
    const { client, config } = this.#context;
    const standing = standingOf(run, config.namespace);
    const refusal =
      refusalOfPoint(run, { pointId: found.pointId, machine: point.vm.name }, standing) ?? refusalOfBundle(point.vm.name, bundle);
    if (refusal !== null) return { kind: "refuse", ...refusal };
    if (bundle === null) throw new TypeError("a point without objects was refused before");
    const target = await gatherTarget(client, wish, bundle, signal);
    const plan = planRestore(wish, pointFacts(point, bundle), target);
    if (plan.kind !== "restore") return end(plan, wish, target.vm !== null);
    const started = await this.#start(restore, plan, signal);
    // As the repository has it: a mirror only says so.
    const pointTime = rfc3339(point.time);
    return started.kind === "start" ? { ...started, status: { ...started.status, pointTime } } : started;
  }

  /** Makes what is missing, has the volumes held, and then the agent may write. */
  async #start({ run, attempt, wish, found }: Restore, plan: RestorePlan, signal: AbortSignal): Promise<Preparation> {
    const { config, client, now } = this.#context;
    const { repository, pointId } = found;
    const { uid, namespace, name } = wish;
    const barrier = (await this.#before(wish, plan, signal)) ?? (await createObjects(client, { steps: plan.steps, uid }, signal));
    if (barrier !== null) return barrier;
    const repositoryName = repository.metadata.name;
    const held = await holdDisks(this.#context, { run, namespace, repository: repositoryName, disks: plan.disks }, signal);
    if (held.kind !== "held") return held;
    const objects = agentObjects(
      {
        owner: run,
        attempt,
        work: restoreWork(pointId, plan.disks),
        repository,
        deadline: deadlineOf({ ...run, status: { ...run.status, startTime: run.status?.startTime ?? now().toISOString() } }),
        uploadBytesPerSecond: 0,
        nodeName: held.nodeName,
        mounts: held.mounts,
        files: {},
        annotations: keep(plan, { repository: repositoryName, namespace, name }),
      },
      config,
    );
    const pvcs = plan.disks.map(({ disk, claim }) => ({ disk, name: claim }));
    return { kind: "start", objects, nodeName: held.nodeName, status: { pvcs } };
  }

  /** A machine that is there is stopped for good, and marked; one that is not there is tried out. */
  async #before(wish: RestoreWish, plan: RestorePlan, signal: AbortSignal): Promise<Preparation | null> {
    const { client } = this.#context;
    const { uid } = wish;
    const barrier = await tryMachine(client, { plan, uid }, signal);
    if (barrier !== null || plan.before === null) return barrier;
    const machine = await getMachine(client, wish, signal);
    if (machine === null) return { kind: "wait", reason: "CreatingObjects", message: "the VirtualMachine went away", againInMs: 1_000 };
    if (!isMarked(machine, plan.before)) await patchMachine(client, machine, plan.before, signal);
    return null;
  }

  freezer(): null {
    return null;
  }

  async mustAbort(run: RestoreRequest, signal: AbortSignal): Promise<Stop | null> {
    const kept = keptOf(this.#context, run);
    if (kept === null) return null;
    const { claims, replaced } = kept;
    const found = await restoreObstacle(this.#context.client, { place: kept, uid: identityOf(run).uid, claims, replaced }, signal);
    return found === null ? null : { ...found, final: false };
  }

  async completed(run: RestoreRequest, result: SucceededResult, signal: AbortSignal): Promise<Completion> {
    const kept = keptOf(this.#context, run);
    if (kept === null) return { kind: "failed", reason: "Deleted", message: "its agent's pod is gone", retryable: true };
    return await finishRestore(this.#context, { run, result, kept, inspections: this.#inspections }, signal);
  }

  reasonOf(failure: string): string {
    return reasonOf(failure);
  }

  afterEnd(run: RestoreRequest): Promise<undefined> {
    this.#inspections.forget(identityOf(run).uid);
    return Promise.resolve(undefined);
  }
}

function isUnderWay(run: RestoreRequest): boolean {
  return run.status?.agentPod !== undefined && !isDone(run);
}

/** How a decision that restores nothing reads. */
function end(decision: Exclude<RestoreDecision, RestorePlan>, wish: RestoreWish, machineThere: boolean): Preparation {
  const { namespace, name } = wish;
  const status = { vmRef: { namespace, name } };
  if (decision.kind === "restored") {
    return { kind: "done", reason: "Completed", message: `the VirtualMachine ${namespace}/${name} is restored`, status };
  }
  if (decision.kind === "skip") return { kind: "done", reason: "Skipped", message: decision.message, status };
  if (decision.kind === "refuse")
    return { kind: "refuse", ...refusalOfPlan(decision, { machineThere: machineThere && wish.existing === "Fail" }) };
  return { kind: "wait", reason: "WaitingForVolume", message: decision.message, againInMs: decision.lookAgainSeconds * 1000 };
}

function refusalOfBundle(
  machine: string,
  bundle: Bundle | null,
): { readonly reason: string; readonly message: string; readonly final: boolean } | null {
  if (bundle === null) {
    const message = `the restore point of ${machine} has no VirtualMachine in it, only disks: restore them with \`thinstream restore\` on a node`;
    return { reason: "VirtualMachineNotInPoint", message, final: true };
  }
  if (`${bundle.namespace}/${bundle.name}` === machine) return null;
  const message = `the restore point of ${machine} has the objects of ${bundle.namespace}/${bundle.name} in it: run thinstream check`;
  return { reason: "RepositoryDamaged", message, final: true };
}

function isMarked({ metadata, spec }: VirtualMachine, { annotations, runStrategy }: NonNullable<RestorePlan["before"]>): boolean {
  return spec?.runStrategy === runStrategy && Object.entries(annotations).every(([key, value]) => metadata.annotations?.[key] === value);
}
