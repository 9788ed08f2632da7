import { type BackupRepository, durationMs, quantityBytes, type SucceededResult, type VirtualMachineBackup } from "../../api/index.ts";
import { accessOf } from "../access.ts";
import type { GuestFreezer } from "../agents/follower.ts";
import { ensureHolder } from "../agents/holder.ts";
import type { AgentObjects } from "../agents/job.ts";
import { agentObjects } from "../agents/objects.ts";
import type { ControllerContext } from "../context.ts";
import { backups } from "../kinds.ts";
import { identityOf } from "../identity.ts";
import { gatherFacts } from "../kubevirt/gather.ts";
import { instanceFreezer } from "../kubevirt/freezer.ts";
import { mustAbort } from "../plan/kubevirt/obstacles.ts";
import { createMirror, mirror, mirrorRef } from "../catalog/mirror.ts";
import { deadlineOf } from "../runs/attempt.ts";
import type { Completion, Preparation, RunKind, Stop } from "../runs/run.ts";
import { Claims, machineName, waitsForSlot } from "./admission.ts";
import { withCaptures } from "./captures.ts";
import { keep, keptOf } from "./kept.ts";
import { bitmapsAnnotation } from "./newest.ts";
import { outcomeOf } from "./outcome.ts";
import { outsideWindow, windowClosed } from "./overrun.ts";
import { heldMounts, type ReadyWork, type WorkDecision, workOf } from "./source.ts";

/** How an agent's reasons read on a run; the others are what more attempts came to nothing for. */
const REASONS: Readonly<Record<string, string>> = {
  DeadlineExceeded: "DeadlineExceeded",
  GuestNotFrozen: "FreezeFailed",
  DiskNotSupported: "DisksNotSupported",
  DiskNotFound: "DiskNotFound",
  DomainNotFound: "DomainNotFound",
  WorkOrderTampered: "WorkOrderRejected",
  WorkOrderInvalid: "WorkOrderRejected",
  Cancelled: "Cancelled",
};

/** Backups as runs. */
export class BackupKind implements RunKind<VirtualMachineBackup> {
  readonly resource = backups;
  readonly work = "backup";
  // libvirt has one job at a time, and a point is committed once.
  readonly mayOverlap = true;
  readonly finalStops = [windowClosed.reason];
  readonly words = { busy: "BackingUp", action: "Backup", started: "BackupStarted", succeeded: "BackupSucceeded", failed: "BackupFailed" };
  readonly #context: ControllerContext;
  readonly #claims = new Claims();

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  known(key: string): VirtualMachineBackup | undefined {
    return this.#context.caches.backups.lister.get(key);
  }

  async prepare(run: VirtualMachineBackup, attempt: number, signal: AbortSignal): Promise<Preparation> {
    return outsideWindow(this.#context, run) ?? (await this.#prepareNow(run, attempt, signal));
  }

  async #prepareNow(run: VirtualMachineBackup, attempt: number, signal: AbortSignal): Promise<Preparation> {
    const access = accessOf(this.#context, run.spec.repositoryRef.name, run.metadata.namespace ?? "");
    if ("refusal" in access) return { kind: "refuse", ...access.refusal, final: false };
    const { repository } = access;
    const decision = await this.#turnAndWork(run, signal);
    if (decision.kind !== "ready") return decision;
    if (!this.#claims.take(this.#context, run)) return slotWait(`waits until another run of ${machineName(run)} that begins now ends`);
    const held = await this.#hold(run, decision, signal);
    if ("kind" in held) return held;
    const objects = await this.#objects(run, { attempt, repository, decision, held }, signal);
    return { kind: "start", objects, nodeName: held.nodeName, status: { engine: decision.engine } };
  }

  async #objects(
    run: VirtualMachineBackup,
    {
      attempt,
      repository,
      decision,
      held,
    }: {
      readonly attempt: number;
      readonly repository: BackupRepository;
      readonly decision: ReadyWork;
      readonly held: Pick<ReadyWork, "mounts" | "nodeName">;
    },
    signal: AbortSignal,
  ): Promise<AgentObjects> {
    const { work, files, warnings } = await withCaptures(this.#context, { decision, repository }, signal);
    const { underWay, bitmaps, doubts, madeAnew } = decision;
    const kept = keep({ underWay, bitmaps, doubts, madeAnew, warnings: [...decision.warnings, ...warnings] });
    const limit = run.spec.bandwidth ?? repository.spec.limits.uploadBandwidth;
    const startTime = run.status?.startTime ?? this.#context.now().toISOString();
    return agentObjects(
      {
        owner: run,
        attempt,
        work: { ...work, domain: domainOf(run, repository) },
        repository,
        deadline: deadlineOf({ ...run, status: { ...run.status, startTime } }),
        uploadBytesPerSecond: limit === undefined ? 0 : Math.floor(quantityBytes(limit)),
        nodeName: held.nodeName,
        mounts: held.mounts,
        files,
        annotations: kept,
      },
      this.#context.config,
    );
  }

  /** Its turn goes first, as far as it is known without asking the API server: of a thousand runs that are due at once most wait, and look again and again. */
  async #turnAndWork(run: VirtualMachineBackup, signal: AbortSignal): Promise<WorkDecision> {
    const early = this.#turn(run, null);
    if (early !== null) return early;
    const decision = await workOf(this.#context, run, signal);
    return decision.kind === "ready" ? (this.#turn(run, decision.nodeName) ?? decision) : decision;
  }

  #turn(run: VirtualMachineBackup, node: string | null): (WorkDecision & { readonly kind: "wait" }) | null {
    const message = waitsForSlot(this.#context, run, node);
    return message === null ? null : slotWait(message);
  }

  /** Where the agent finds the disks: for a stopped machine, at a holder that has them. */
  async #hold(
    run: VirtualMachineBackup,
    work: ReadyWork,
    signal: AbortSignal,
  ): Promise<Pick<ReadyWork, "mounts" | "nodeName"> | (Preparation & { readonly kind: "wait" })> {
    if (work.holds === null) return { mounts: work.mounts, nodeName: work.nodeName };
    const volumes = work.holds.disks.map(({ volume, claim, mode }) => ({ volume, claim, mode }));
    const { repositoryRef } = run.spec;
    const hold = {
      owner: run,
      namespace: run.metadata.namespace ?? "",
      repository: repositoryRef.name,
      volumes,
      node: work.nodeName,
      readOnly: true,
    };
    const holder = await ensureHolder(this.#context, hold, signal);
    if (holder.kind === "wait") return { kind: "wait", reason: "WaitingForVolume", message: holder.message, againInMs: 3_000 };
    return { nodeName: holder.nodeName, mounts: heldMounts(this.#context, work.holds, holder.podUid) };
  }

  freezer(run: VirtualMachineBackup): GuestFreezer | null {
    const name = run.spec.source.virtualMachine?.name;
    if (name === undefined) return null;
    // Longer than the agent waits, so that the guest is not thawed under its hands.
    const seconds = Math.round(durationMs(run.spec.consistency.freezeTimeout) / 1000);
    return instanceFreezer(this.#context.client, { namespace: run.metadata.namespace ?? "", name }, Math.max(5, seconds));
  }

  async mustAbort(run: VirtualMachineBackup, signal: AbortSignal): Promise<Stop | null> {
    if (outsideWindow(this.#context, run)?.kind === "refuse") return windowClosed;
    const name = run.spec.source.virtualMachine?.name;
    const source = keptOf(this.#context, run);
    if (name === undefined || source === null) return null;
    const facts = await gatherFacts(this.#context.client, { namespace: run.metadata.namespace ?? "", name }, signal);
    const found = mustAbort(facts, source.underWay);
    return found === null ? null : { ...found, final: false };
  }

  async completed(run: VirtualMachineBackup, result: SucceededResult, signal: AbortSignal): Promise<Completion> {
    const { point } = result;
    if (point === undefined) throw new TypeError("a backup's result names no restore point");
    const restorePoint = await this.#mirror(run, result, signal);
    const outcome = outcomeOf({ ...result, point }, keptOf(this.#context, run));
    return restorePoint === null ? outcome : { ...outcome, status: { ...outcome.status, restorePointRef: { name: restorePoint } } };
  }

  /** The new point's RestorePoint; left to the repository's next sync where the agent's message had no room for all disks. */
  async #mirror(run: VirtualMachineBackup, { point, disks = [], omitted }: SucceededResult, signal: AbortSignal): Promise<string | null> {
    if (point === undefined || disks.length === 0 || (omitted?.disks ?? 0) > 0) return null;
    const { client, caches, config } = this.#context;
    const repository = run.spec.repositoryRef.name;
    const homes = { has: (name: string): boolean => caches.namespaces.lister.get(name) !== undefined };
    const mirrored = { ...point, vm: { name: nameInRepository(run), uid: null }, disks };
    const ref = mirrorRef(repository, mirrored, { homes, home: config.namespace });
    const bitmaps = keptOf(this.#context, run)?.bitmaps ?? null;
    const annotations = bitmaps === null ? {} : { [bitmapsAnnotation]: JSON.stringify(bitmaps) };
    const made = await createMirror(client, mirror(repository, mirrored, ref), { annotations, signal });
    return made.metadata.name;
  }

  reasonOf(failure: string): string {
    return REASONS[failure] ?? "BackoffLimitExceeded";
  }

  async afterEnd(run: VirtualMachineBackup, signal: AbortSignal): Promise<{ readonly againInMs: number } | undefined> {
    const { completionTime } = run.status ?? {};
    if (run.spec.ttlAfterFinished === undefined || completionTime === undefined) return undefined;
    const left = Date.parse(completionTime) + durationMs(run.spec.ttlAfterFinished) - this.#context.now().getTime();
    if (left > 0) return { againInMs: left };
    await this.#context.client.delete(backups, run.metadata, { uid: run.metadata.uid, signal });
    return undefined;
  }
}

function nameInRepository(run: VirtualMachineBackup): string {
  const { virtualMachine, libvirt } = run.spec.source;
  return virtualMachine === undefined ? (libvirt?.domain ?? "") : `${identityOf(run).namespace}/${virtualMachine.name}`;
}

/** The namespace's own, where the repository has one for each; null: the one for all. */
function domainOf({ metadata }: VirtualMachineBackup, { spec }: BackupRepository): string | null {
  return spec.encryption.domains === "Namespace" ? (metadata.namespace ?? null) : null;
}

function slotWait(message: string): {
  readonly kind: "wait";
  readonly reason: "WaitingForSlot";
  readonly message: string;
  readonly againInMs: number;
} {
  return { kind: "wait", reason: "WaitingForSlot", message, againInMs: 15_000 };
}
