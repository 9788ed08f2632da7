import { applyStatus, type Lane } from "../../kube/index.ts";
import { resultOf } from "../agents/result.ts";
import type { ControllerContext, Reconcile } from "../context.ts";
import { isOverdue, type PodState, podState } from "../dispatch/pod-state.ts";
import type { Pod } from "../kinds.ts";
import { isDone } from "../said.ts";
import { attemptOf, attemptsOf, backoffAfter, deadlineOf } from "./attempt.ts";
import { attemptBegun, attemptFailed, failed, stalled, succeeded, waiting } from "./record.ts";
import type { Preparation, RunKind, RunResource, RunStatus } from "./run.ts";
import { decidedStop, type Failure, lastWord, lost, overdue, refusalOf, silence, startTrouble } from "./trouble.ts";

type Again = Awaited<ReturnType<Reconcile>>;

/** milliseconds that a pod may take to start before the attempt counts as failed */
const START_MS = 5 * 60_000;
/** milliseconds between two looks at a run under way, and between two writes of its progress */
const LOOK_MS = 10_000;

type Prepared =
  Exclude<Preparation, { readonly kind: "start" }> | (Extract<Preparation, { readonly kind: "start" }> & { readonly pod: Pod });

const unordered = {
  kind: "wait",
  reason: "AgentStarting",
  message: "an agent that never got its work order is taken away first",
  againInMs: 1000,
} as const;

/**
 * Brings a run, backup or restore, to its end through any number of attempts. Level-based: every step follows from the resource and its pods as they are, is
 * recorded before the next, and may be repeated by a controller that did not see it done.
 */
export class RunReconciler {
  readonly #context: ControllerContext;
  readonly #kind: RunKind;

  constructor(context: ControllerContext, kind: RunKind) {
    this.#context = context;
    this.#kind = kind;
  }

  readonly reconcile: Reconcile = async (key, signal) => {
    const { agents } = this.#context;
    const known = this.#kind.known(key);
    const run = known === undefined || isDeleting(known) ? null : known;
    const uid = run?.metadata.uid ?? "";
    await agents.removeStrangers(`${this.#kind.resource.kind}/${key}`, uid, signal);
    if (run === null) return undefined;
    if (!isDone(run)) return await this.#step(run, signal);
    await agents.remove(uid, signal);
    return await this.#kind.afterEnd(run, signal);
  };

  async #step(run: RunResource, signal: AbortSignal): Promise<Again> {
    const { agents, now } = this.#context;
    const { current, over, next } = attemptsOf(run, agents.workers(run.metadata.uid ?? "", this.#kind.work));
    for (const pod of over) await agents.removePod(pod, signal);
    if (current !== null) return await this.#look(run, current, signal);
    const named = run.status?.agentPod;
    if (named === undefined) return await this.#begin(run, next, signal);
    // The cache may be behind: only the server knows that a pod is gone.
    if ((await agents.find(named.namespace, named.name, signal)) !== null) return { againInMs: 1000 };
    return await this.#attemptFailed(run, null, { ...lost("Deleted", "its pod was deleted"), at: now() }, signal);
  }

  async #begin(run: RunResource, attempt: number, signal: AbortSignal): Promise<Again> {
    const now = this.#context.now();
    const deadline = deadlineOf(run);
    const waitUntil = this.#backoffUntil(run);
    if (now >= deadline) return await this.#end(run, null, overdue(run, now), signal);
    if (waitUntil > now.getTime()) return { againInMs: waitUntil - now.getTime() };
    const prepared = await this.#prepare(run, attempt, signal);
    const untilDeadline = deadline.getTime() - now.getTime();
    if (prepared.kind === "refuse" && prepared.final) return await this.#end(run, null, { ...prepared, retryable: false, at: now }, signal);
    if (prepared.kind === "refuse") {
      await this.#write(run, (latest) => stalled(latest, prepared, { now }), signal);
      this.#say(run, "Warning", prepared.reason, prepared.message);
      return { againInMs: Math.min(60_000, untilDeadline) };
    }
    if (prepared.kind === "wait") {
      // Of a thousand runs that are due at once most wait: making the last of them goes before saying so of the first.
      await this.#write(run, (latest) => ({ ...waiting(latest, prepared, { now }), ...prepared.status }), signal, "low");
      return { againInMs: Math.min(prepared.againInMs, untilDeadline) };
    }
    if (prepared.kind === "done") {
      await this.#write(run, (latest) => succeeded(latest, { ...prepared, warnings: [], at: now }, { now }), signal);
      return undefined;
    }
    const { pod } = prepared;
    const { name, namespace = "" } = pod.metadata;
    const begun = { attempt, pod: { name, namespace }, nodeName: prepared.nodeName, more: prepared.status };
    await this.#write(run, (latest) => attemptBegun(latest, begun, { now }), signal);
    this.#say(
      run,
      "Normal",
      this.#kind.words.started,
      `attempt ${attempt} began: agent ${name}${prepared.nodeName === null ? "" : ` on node ${prepared.nodeName}`}`,
    );
    return { againInMs: LOOK_MS };
  }

  /** What a run needs, and its agent where there is nothing to wait for. */
  async #prepare(run: RunResource, attempt: number, signal: AbortSignal): Promise<Prepared> {
    try {
      const prepared = await this.#kind.prepare(run, attempt, signal);
      if (prepared.kind !== "start") return prepared;
      const pod = await this.#context.agents.launch(prepared.objects, signal);
      return pod === null ? unordered : { ...prepared, pod };
    } catch (thrown) {
      const refusal = refusalOf(thrown);
      if (refusal === null) throw thrown;
      this.#context.log.warn({ err: thrown }, `${this.#kind.resource.kind} ${run.metadata.name}: ${refusal.message}`);
      return refusal;
    }
  }

  #backoffUntil(run: RunResource): number {
    const { lastFailure, attempts = 0 } = run.status ?? {};
    return lastFailure === undefined ? 0 : Date.parse(lastFailure.time) + backoffAfter(attempts);
  }

  async #look(run: RunResource, pod: Pod, signal: AbortSignal): Promise<Again> {
    if (run.status?.agentPod?.name !== pod.metadata.name) return await this.#adopt(run, pod, signal);
    const state = podState(pod);
    if (state.phase === "reported") return await this.#reported(run, pod, state, signal);
    if (state.phase === "lost") {
      const at = state.finishedAt === null ? this.#context.now() : new Date(state.finishedAt);
      return await this.#attemptFailed(run, pod, { ...lost(state.reason, state.message), at }, signal);
    }
    if (isOverdue(pod, this.#context.now())) return await this.#silent(run, pod, signal);
    return (await this.#stopIfNeeded(run, pod, signal)) ?? (await this.#goesOn(run, pod, { state, signal }));
  }

  /** The agent's node does not answer, and it may work on. Another begins only where the two cannot spoil each other's work. */
  async #silent(run: RunResource, pod: Pod, signal: AbortSignal): Promise<Again> {
    const now = this.#context.now();
    const message = silence(pod);
    if (now >= deadlineOf(run)) return await this.#end(run, pod, overdue(run, now, message), signal);
    if (this.#kind.mayOverlap)
      return await this.#attemptFailed(run, pod, { reason: "NodeLost", message, retryable: true, at: now }, signal);
    const said = { reason: "NodeLost", message: `${message}; bring the node back, or remove it from the cluster if it is off for good` };
    await this.#write(run, (latest) => stalled(latest, said, { now }), signal);
    this.#say(run, "Warning", said.reason, said.message);
    return { againInMs: LOOK_MS };
  }

  /** Records a pod that was made and not recorded: the controller that made it did not live to say so. */
  async #adopt(run: RunResource, pod: Pod, signal: AbortSignal): Promise<Again> {
    const { metadata, spec } = pod;
    const { name, namespace = "" } = metadata;
    // No attempt: what waits for an order that nobody made has done nothing.
    if (!isOverdue(pod, this.#context.now()) && (await this.#context.agents.removeUnordered(pod, signal))) return { againInMs: 1000 };
    const begun = { attempt: attemptOf({ metadata }), pod: { name, namespace }, nodeName: spec?.nodeName ?? null, more: {} };
    await this.#write(run, (latest) => attemptBegun(latest, begun, { now: this.#context.now() }), signal);
    return { againInMs: 0 };
  }

  async #goesOn(run: RunResource, pod: Pod, { state, signal }: { readonly state: PodState; readonly signal: AbortSignal }): Promise<Again> {
    const now = this.#context.now();
    if (state.phase === "starting") {
      const age = now.getTime() - Date.parse(pod.metadata.creationTimestamp ?? now.toISOString());
      const { problem } = state;
      if (problem !== null && age > START_MS) {
        return await this.#attemptFailed(
          run,
          pod,
          { reason: problem.reason, message: `the agent did not start: ${startTrouble(problem)}`, retryable: true, at: now },
          signal,
        );
      }
      const message =
        problem === null
          ? `the agent ${pod.metadata.name} starts`
          : `the agent ${pod.metadata.name} does not start: ${startTrouble(problem)}`;
      if (problem !== null) this.#say(run, "Warning", problem.reason, message);
      await this.#write(run, (latest) => waiting(latest, { reason: "AgentStarting", message }, { now }), signal);
      return { againInMs: LOOK_MS };
    }
    await this.#context.agents.follow(pod, this.#kind.freezer(run), this.#context.leadership());
    await this.#writeProgress(run, pod, now, signal);
    return { againInMs: LOOK_MS };
  }

  async #writeProgress(run: RunResource, pod: Pod, now: Date, signal: AbortSignal): Promise<void> {
    const progress = this.#news(run, pod);
    const saying = { reason: this.#kind.words.busy, message: `attempt ${attemptOf(pod)} works on node ${pod.spec?.nodeName ?? "?"}` };
    await this.#write(run, (latest) => ({ ...waiting(latest, saying, { now }), ...progress }), signal);
  }

  /** What the agent said of its progress, where it is time to say so again. */
  #news(run: RunResource, pod: Pod): Pick<RunStatus, "progress"> {
    const said = this.#context.agents.progress(pod);
    if (said === null || said.totalBytes === 0) return {};
    const { totalBytes, doneBytes } = said;
    if (!this.#context.pace.allows(`progress/${run.metadata.uid ?? ""}`, LOOK_MS)) return {};
    return { progress: { percent: Math.min(99, Math.floor((doneBytes * 100) / totalBytes)), doneBytes, totalBytes } };
  }

  /**
   * Ends the agent of a run that must not go on. Where that is for good, it is said first, and done once it is seen to be said: whoever finds the agent gone
   * knows why, also when the reason has passed by then.
   */
  async #stopIfNeeded(run: RunResource, pod: Pod, signal: AbortSignal): Promise<Again | null> {
    const now = this.#context.now();
    const decided = decidedStop(run, this.#kind);
    const late = now >= deadlineOf(run) ? { ...overdue(run, now), final: false } : null;
    const stop = decided ?? late ?? (await this.#kind.mustAbort(run, signal));
    if (stop === null) return null;
    if (pod.metadata.deletionTimestamp !== undefined) return { againInMs: 1000 };
    if (decided === null) this.#say(run, "Warning", stop.reason, stop.message);
    if (decided === null && stop.final) await this.#write(run, (latest) => waiting(latest, stop, { now }), signal);
    else await this.#context.agents.removePod(pod, signal);
    return { againInMs: 1000 };
  }

  async #reported(
    run: RunResource,
    pod: Pod,
    { message, finishedAt }: { readonly message: string; readonly finishedAt: string | null },
    signal: AbortSignal,
  ): Promise<Again> {
    const at = finishedAt === null ? this.#context.now() : new Date(finishedAt);
    const result = resultOf(message);
    if (result.outcome === "Failed") return await this.#attemptFailed(run, pod, { ...result, at }, signal);
    const completion = await this.#kind.completed(run, result, signal);
    if (completion.kind === "failed") return await this.#attemptFailed(run, pod, { ...completion, at: this.#context.now() }, signal);
    if (completion.kind === "wait") return await this.#notYet(run, pod, completion, signal);
    await this.#write(
      run,
      (latest) => succeeded(latest, { ...completion, at, totalBytes: result.totalBytes }, { now: this.#context.now() }),
      signal,
    );
    this.#say(
      run,
      completion.warnings.length > 0 ? "Warning" : "Normal",
      this.#kind.words.succeeded,
      [completion.message, ...completion.warnings].join("; "),
    );
    await this.#context.agents.removePod(pod, signal);
    return undefined;
  }

  /** The agent is done, and what follows is not: not for longer than the run has. */
  async #notYet(
    run: RunResource,
    pod: Pod,
    saying: { readonly reason: string; readonly message: string },
    signal: AbortSignal,
  ): Promise<Again> {
    const now = this.#context.now();
    if (now >= deadlineOf(run)) return await this.#end(run, pod, overdue(run, now, saying.message), signal);
    await this.#write(run, (latest) => waiting(latest, saying, { now }), signal);
    return { againInMs: 1000 };
  }

  async #attemptFailed(run: RunResource, pod: Pod | null, failure: Failure, signal: AbortSignal): Promise<Again> {
    const { attempts = 1 } = run.status ?? {};
    const now = this.#context.now();
    const stop = decidedStop(run, this.#kind);
    if (stop !== null) return await this.#end(run, pod, { ...stop, retryable: false, at: failure.at }, signal);
    this.#context.figures.attemptFailed({ work: this.#kind.work, run, attempt: attempts, reason: failure.reason });
    if (now >= deadlineOf(run)) return await this.#end(run, pod, overdue(run, failure.at, lastWord(failure)), signal);
    if (!failure.retryable) return await this.#end(run, pod, { ...failure, reason: this.#kind.reasonOf(failure.reason) }, signal);
    if (attempts > run.spec.backoffLimit) {
      const message = `${attempts} ${attempts === 1 ? "attempt" : "attempts"} failed, the last with ${failure.reason}: ${failure.message}`;
      return await this.#end(run, pod, { ...failure, reason: "BackoffLimitExceeded", message }, signal);
    }
    const agentLog = pod === null ? "" : await this.#context.agents.logTail(pod, signal);
    const next = {
      reason: "BackingOff",
      message: `attempt ${attempts} failed (${failure.reason}): ${failure.message}; the next follows in ${backoffAfter(attempts) / 1000} s`,
    };
    await this.#write(run, (latest) => attemptFailed(latest, { ...failure, agentLog, next }, { now }), signal);
    this.#say(run, "Warning", failure.reason, failure.message);
    if (pod !== null) await this.#context.agents.removePod(pod, signal);
    return { againInMs: backoffAfter(attempts) };
  }

  async #end(run: RunResource, pod: Pod | null, failure: Failure, signal: AbortSignal): Promise<Again> {
    const agentLog = pod === null ? "" : await this.#context.agents.logTail(pod, signal);
    await this.#write(run, (latest) => failed(latest, { ...failure, agentLog }, { now: this.#context.now() }), signal);
    this.#say(run, "Warning", this.#kind.words.failed, `${failure.reason}: ${failure.message}`);
    if (pod !== null) await this.#context.agents.removePod(pod, signal);
    return undefined;
  }

  async #write(run: RunResource, next: (latest: RunResource) => RunStatus, signal: AbortSignal, lane: Lane = "normal"): Promise<void> {
    const { client } = this.#context;
    // What is done is done: a stale cache never writes over an end.
    const guarded = (latest: RunResource): RunStatus | undefined => (isDone(latest) ? latest.status : next(latest));
    await applyStatus(client, this.#kind.resource, run, { next: guarded, lane, signal });
  }

  #say(run: RunResource, type: "Normal" | "Warning", reason: string, note: string): void {
    this.#context.events.record(run, { type, reason, action: this.#kind.words.action, note });
  }
}

function isDeleting({ metadata }: RunResource): boolean {
  return metadata.deletionTimestamp !== undefined;
}
