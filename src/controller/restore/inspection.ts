import { type BackupRepository, type PointSummary, type RestoreRequest } from "../../api/index.ts";
import { formatBytes } from "../../lib/bytes.ts";
import { errorText } from "../../lib/errors.ts";
import { InvalidValueError } from "../../lib/invalid-value.ts";
import { AgentChannel } from "../agents/agent-channel.ts";
import { agentObjects } from "../agents/objects.ts";
import { resultOf } from "../agents/result.ts";
import { OBJECTS_FILE } from "../backup/captures.ts";
import type { ControllerContext } from "../context.ts";
import { podState } from "../dispatch/pod-state.ts";
import { identityOf } from "../identity.ts";
import type { Pod } from "../kinds.ts";
import { type Bundle, parseBundle } from "../plan/kubevirt/bundle.ts";
import type { PointFacts } from "../plan/kubevirt/restore-request.ts";
import { deadlineOf } from "../runs/attempt.ts";
import type { Preparation } from "../runs/run.ts";
import { refusalOfInspection } from "./trouble.ts";

/** What the repository has of a point beside its disks. */
export interface Inspected {
  readonly point: PointSummary;
  /** Null: nothing of Kubernetes was kept with it. */
  readonly bundle: Bundle | null;
}

/** As a plan takes it. */
export function pointFacts({ disks }: PointSummary, bundle: Bundle): PointFacts {
  return { bundle, disks: disks.map(({ name, size }) => ({ name, sizeBytes: size })) };
}

type Looked = { readonly kind: "inspected"; readonly inspected: Inspected } | Extract<Preparation, { readonly kind: "refuse" | "wait" }>;

/** What is inspected, and for whom. */
interface Question {
  readonly run: RestoreRequest;
  readonly attempt: number;
  readonly repository: BackupRepository;
  readonly pointId: string;
}

const LOOK_MS = 1_000;
const START_MS = 5 * 60_000;
/** milliseconds between two agents that inspect for one run */
const AGAIN_MS = 15_000;
const MAX_OBJECTS = 16 * 2 ** 20;
/** Answers kept, each of some 100 KiB. One that is gone is asked for again. */
const MOST = 64;

/** Asks the repository, by an agent, what was kept with a point. The answer has Secrets in it: it stays in memory. */
export class Inspections {
  readonly #context: ControllerContext;
  /** by the run's UID */
  readonly #known = new Map<string, Inspected>();

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  forget(uid: string): void {
    this.#known.delete(uid);
  }

  /** What is known by now; begins to ask where nothing is. To be called again until it is `inspected`. */
  async look(question: Question, signal: AbortSignal): Promise<Looked> {
    const { agents, pace } = this.#context;
    const { uid } = identityOf(question.run);
    const known = this.#known.get(uid);
    const pods = agents.workers(uid, "inspect");
    if (known?.point.id === question.pointId) {
      for (const pod of pods) await agents.removePod(pod, signal);
      return { kind: "inspected", inspected: known };
    }
    const pod = pods[0];
    if (pod !== undefined) return await this.#follow(question, pod, signal);
    if (!pace.allows(`inspect/${uid}`, AGAIN_MS)) return reading("an agent is about to read what was kept with the restore point", LOOK_MS);
    await this.#launch(question, signal);
    return reading("an agent starts, to read what was kept with the restore point", LOOK_MS);
  }

  async #launch({ run, attempt, repository, pointId }: Question, signal: AbortSignal): Promise<void> {
    const { agents, config } = this.#context;
    const work = { type: "inspect" as const, point: pointId };
    const job = { owner: run, attempt, work, repository, deadline: deadlineOf(run), uploadBytesPerSecond: 0, nodeName: null };
    await agents.launch(agentObjects({ ...job, mounts: [], files: {}, annotations: {} }, config), signal);
  }

  async #follow(question: Question, pod: Pod, signal: AbortSignal): Promise<Looked> {
    const { agents, now } = this.#context;
    const { name } = pod.metadata;
    if (pod.metadata.deletionTimestamp !== undefined) return reading(`the agent ${name} ends`, LOOK_MS);
    const state = podState(pod);
    if (state.phase === "running") return await this.#fetch(question, pod, signal);
    if (state.phase === "starting") {
      const why = state.problem === null ? "" : `: ${state.problem.message}`;
      const isLate = now().getTime() - identityOf(pod).createdAt.getTime() > START_MS;
      if (!(await agents.removeUnordered(pod, signal)) && isLate) await agents.removePod(pod, signal);
      return reading(`the agent ${name} starts, to read what was kept with the restore point${why}`, LOOK_MS);
    }
    await agents.removePod(pod, signal);
    if (state.phase === "lost") return reading(`the agent ${name} was lost (${state.reason}) and is made anew`, LOOK_MS);
    const result = resultOf(state.message);
    if (result.outcome === "Succeeded" || result.retryable) return reading(`the agent ${name} is made anew: ${result.message}`, LOOK_MS);
    return { kind: "refuse", ...refusalOfInspection(result) };
  }

  async #fetch({ run, pointId }: Question, pod: Pod, signal: AbortSignal): Promise<Looked> {
    const { agents } = this.#context;
    const address = await agents.address(pod, signal);
    const still = reading("the restore point is being read", LOOK_MS);
    if (address === null) return still;
    const channel = new AgentChannel(address);
    const progress = await channel.progress(signal).catch(() => null);
    if (progress?.phase !== "Serving") return still;
    const inspected = await read(channel, signal).catch((thrown: unknown) => {
      if (thrown instanceof InvalidValueError) return thrown;
      throw thrown;
    });
    await channel.done(signal).catch(() => undefined);
    await agents.removePod(pod, signal);
    if (inspected instanceof InvalidValueError)
      return { kind: "refuse", reason: "RepositoryDamaged", message: errorText(inspected), final: true };
    // An agent of a choice that was not recorded.
    if (inspected.point.id !== pointId) return still;
    this.#remember(identityOf(run).uid, inspected);
    return { kind: "inspected", inspected };
  }

  #remember(uid: string, inspected: Inspected): void {
    this.#known.set(uid, inspected);
    if (this.#known.size > MOST) this.#known.delete(this.#known.keys().next().value as string);
  }
}

async function read(channel: AgentChannel, signal: AbortSignal): Promise<Inspected> {
  const { point } = await channel.captures(signal);
  const kept = point.captures.find(({ name }) => name === OBJECTS_FILE);
  if (kept === undefined) return { point, bundle: null };
  if (kept.size > MAX_OBJECTS) {
    throw new InvalidValueError(
      `the objects kept with the restore point ${point.id} have ${formatBytes(kept.size)}, more than any backup keeps`,
    );
  }
  return { point, bundle: parseBundle((await channel.capture(OBJECTS_FILE, signal)).toString("utf8")) };
}

function reading(message: string, againInMs: number): Looked {
  return { kind: "wait", reason: "ReadingPoint", message, againInMs };
}
