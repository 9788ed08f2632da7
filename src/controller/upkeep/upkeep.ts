import { type BackupRepository, ContractError, parseAgentResult, rfc3339, type SucceededResult } from "../../api/index.ts";
import { applyStatus } from "../../kube/index.ts";
import { errorText } from "../../lib/errors.ts";
import { InvalidValueError } from "../../lib/invalid-value.ts";
import { agentObjects } from "../agents/objects.ts";
import type { ControllerContext, Reconcile } from "../context.ts";
import { isOverdue, type PodState, podState } from "../dispatch/pod-state.ts";
import { identityOf } from "../identity.ts";
import { type Pod, repositories } from "../kinds.ts";
import { planUpkeep, type UpkeepPlan } from "../plan/upkeep.ts";
import { conditionOf, conditionsWith, type Say } from "../said.ts";
import { type Task, tasks, type Told } from "./tasks.ts";
import { markPoints } from "./verified.ts";

type Again = Awaited<ReturnType<Reconcile>>;

const LOOK_MS = 2_000;
const START_MS = 5 * 60_000;
/** longest ms that a task is waited for without a look at the clock */
const LONGEST_MS = 60 * 60_000;

/** for events */
const ACTIONS: Readonly<Record<Task["work"], string>> = { prune: "Prune", check: "Check", lock: "Lock" };

/**
 * Does what a repository's schedules ask for, each task by an agent of its own. Prune and check need no turn: they may go on beside each other and beside any
 * backup. Level-based: an agent is found by its label, its end is told before it is removed, and may be told twice.
 */
export async function keepUp(context: ControllerContext, repository: BackupRepository, signal: AbortSignal): Promise<Again> {
  // Whether it can be used comes first.
  if (conditionOf(repository, "Ready") === undefined) return undefined;
  let soonest: number | null = null;
  for (const task of tasks) {
    const again = await new TaskKeeper(context, repository, task).keep(signal);
    if (again !== undefined) soonest = Math.min(soonest ?? again.againInMs, again.againInMs);
  }
  return soonest === null ? undefined : { againInMs: soonest };
}

class TaskKeeper {
  readonly #context: ControllerContext;
  readonly #repository: BackupRepository;
  readonly #task: Task;

  constructor(context: ControllerContext, repository: BackupRepository, task: Task) {
    this.#context = context;
    this.#repository = repository;
    this.#task = task;
  }

  async keep(signal: AbortSignal): Promise<Again> {
    const { agents, now } = this.#context;
    const { uid } = identityOf(this.#repository);
    // One on a node that is gone keeps no other from it: two of them do no harm.
    const pod = agents.workers(uid, this.#task.work).find((one) => !isOverdue(one, now()));
    if (pod !== undefined) return await this.#look(pod, signal);
    const scheduled = this.#task.scheduled(this.#repository.spec.maintenance);
    if (scheduled === null) {
      const { unscheduled, condition } = this.#task;
      const message = unscheduled ?? (conditionOf(this.#repository, condition) === undefined ? null : "it has no schedule any more");
      if (message !== null) await this.#say({ status: "Unknown", reason: "NotScheduled", message }, { nextTime: undefined }, signal);
      return undefined;
    }
    const plan = await this.#plan(scheduled.schedule, signal);
    if (plan === null) return undefined;
    if (!plan.isDue) return await this.#wait(plan.next, signal);
    // What cannot be used is looked at again by whoever reads the catalog.
    if (conditionOf(this.#repository, "Ready")?.status !== "True") return undefined;
    await this.#begin(scheduled.work, signal);
    return { againInMs: LOOK_MS };
  }

  async #wait(next: Date | null, signal: AbortSignal): Promise<Again> {
    const nextTime = next === null ? undefined : rfc3339(next);
    const reason = conditionOf(this.#repository, this.#task.condition)?.reason;
    // What the last one came to stands until the next one.
    const isOpen = reason === undefined || reason === "NotScheduled" || reason === "ScheduleInvalid" || reason === "NotYetDue";
    const saying = { status: "Unknown", reason: "NotYetDue", message: nextTime === undefined ? "its schedule has no time to come" : `it is due at ${nextTime}` } as const; // prettier-ignore
    if (isOpen) await this.#say(saying, { nextTime }, signal);
    else await this.#write([], { nextTime }, signal);
    if (next === null) return undefined;
    return { againInMs: Math.min(LONGEST_MS, Math.max(1, next.getTime() - this.#context.now().getTime())) };
  }

  get #known(): { readonly lastAttemptTime?: string; readonly lastSuccessTime?: string } {
    return this.#task.known(this.#repository.status ?? {}) ?? {};
  }

  /** Null where the schedule cannot be read, which is said. */
  async #plan(schedule: string, signal: AbortSignal): Promise<UpkeepPlan | null> {
    const { lastAttemptTime, lastSuccessTime } = this.#known;
    const attempt = lastAttemptTime === undefined ? null : new Date(lastAttemptTime);
    const history = { since: identityOf(this.#repository).createdAt, attempt, succeeded: lastAttemptTime === lastSuccessTime };
    try {
      return planUpkeep(schedule, this.#repository.spec.maintenance.timeZone, history, this.#context.now());
    } catch (thrown) {
      if (!(thrown instanceof InvalidValueError)) throw thrown;
      await this.#say({ status: "False", reason: "ScheduleInvalid", message: errorText(thrown) }, { nextTime: undefined }, signal);
      return null;
    }
  }

  async #begin(work: NonNullable<ReturnType<Task["scheduled"]>>["work"], signal: AbortSignal): Promise<void> {
    const { agents, config, now } = this.#context;
    const repository = this.#repository;
    const attempt = 1 + (Math.floor(now().getTime() / 1000) % 999_999);
    const deadline = new Date(now().getTime() + this.#task.limitMs);
    const job = { owner: repository, attempt, work, repository, deadline, uploadBytesPerSecond: 0, nodeName: null };
    await agents.launch(agentObjects({ ...job, mounts: [], files: {}, annotations: {} }, config), signal);
  }

  async #look(pod: Pod, signal: AbortSignal): Promise<Again> {
    const { agents, now } = this.#context;
    const state = podState(pod);
    if (pod.metadata.deletionTimestamp !== undefined || (await agents.removeUnordered(pod, signal))) return { againInMs: LOOK_MS };
    const age = now().getTime() - identityOf(pod).createdAt.getTime();
    if (state.phase === "running" && age < this.#task.limitMs + START_MS) return { againInMs: LOOK_MS };
    if (state.phase === "starting" && age < START_MS) return { againInMs: LOOK_MS };
    const end = endOf(state);
    if ("failure" in end) await this.#fail(end.failure, signal);
    else await this.#succeed(this.#task.told(end.result), signal);
    await agents.removePod(pod, signal);
    return { againInMs: LOOK_MS };
  }

  async #succeed(told: Told | null, signal: AbortSignal): Promise<void> {
    if (told === null) return await this.#fail("its agent did not say what it found", signal);
    const { damaged, isWhole } = told;
    // The marks first: who sees what the check came to finds them there.
    const marked = damaged === null ? 0 : await markPoints(this.#context, { repository: this.#repository, damaged, isWhole }, signal);
    const { say, facts } = withEarlier(told, marked);
    const at = rfc3339(this.#context.now());
    await this.#say(say, { ...facts, lastAttemptTime: at, lastSuccessTime: at }, signal);
    this.#event(say.status === "True" ? "Normal" : "Warning", say.reason, say.message);
  }

  async #fail(message: string, signal: AbortSignal): Promise<void> {
    const { failed } = this.#task;
    await this.#say({ status: "False", reason: failed, message }, { lastAttemptTime: rfc3339(this.#context.now()) }, signal);
    this.#event("Warning", failed, message);
  }

  #event(type: "Normal" | "Warning", reason: string, note: string): void {
    this.#context.events.record(this.#repository, { type, reason, action: ACTIONS[this.#task.work], note });
  }

  async #say(say: Omit<Say, "type">, facts: object, signal: AbortSignal): Promise<void> {
    await this.#write([{ type: this.#task.condition, ...say }], facts, signal);
  }

  async #write(says: readonly Say[], facts: object, signal: AbortSignal): Promise<void> {
    const { client, now } = this.#context;
    const { work } = this.#task;
    const next = (latest: BackupRepository): BackupRepository["status"] => {
      const { [work]: known, ...status } = latest.status ?? {};
      const said = Object.entries({ ...known, ...facts }).filter(([, value]) => value !== undefined);
      return {
        ...status,
        ...(said.length === 0 ? {} : { [work]: Object.fromEntries(said) }),
        conditions: conditionsWith(latest, says, now()),
      } as BackupRepository["status"];
    };
    await applyStatus(client, repositories, this.#repository, { next, lane: "low", signal });
  }
}

/** A check that did not read everything says nothing of the damage that an earlier one found. @param marked restore points that are known to be damaged */
function withEarlier({ say, facts, damaged }: Told, marked: number): Pick<Told, "say" | "facts"> {
  if (damaged === null || say.status === "False" || marked === 0) return { say, facts };
  const message = `${say.message}; but an earlier check found ${marked} restore points damaged that are still there: delete their RestorePoints, or have level at List and samplePercent at 100 once to look at all again`;
  return { say: { status: "False", reason: "DamageFound", message }, facts: { ...facts, damagedPoints: marked } };
}

/** What an agent that does not go on came to. */
function endOf(state: PodState): { readonly failure: string } | { readonly result: SucceededResult } {
  if (state.phase === "running") return { failure: "its agent did not end in time" };
  if (state.phase === "starting") return { failure: `its agent does not start: ${state.problem?.message ?? "no node runs it"}` };
  if (state.phase === "lost") return { failure: `its agent was lost: ${state.message}` };
  try {
    const result = parseAgentResult(state.message);
    return result.outcome === "Failed" ? { failure: result.message } : { result };
  } catch (thrown) {
    if (!(thrown instanceof ContractError)) throw thrown;
    return { failure: thrown.message };
  }
}
