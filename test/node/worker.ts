import { appendFileSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Api } from "./api.ts";
import { persist } from "./api.ts";
import type { Ending } from "./container.ts";
import { RunningContainer, now } from "./container.ts";
import { recordEvent } from "./events.ts";
import type { NodeHost } from "./host.ts";
import type { Image, Registry } from "./image.ts";
import type { Pod } from "./pod.ts";
import { podPath } from "./pod.ts";
import { probe } from "./probe.ts";
import type { ContainerState, Report } from "./report.ts";
import { statusOf } from "./report.ts";
import { NotYet, asNotYet, environment } from "./sources.ts";
import { PodVolumes } from "./volumes.ts";

/** What the workers of one simulator share. */
export interface Surroundings {
  readonly api: Api;
  readonly host: NodeHost;
  readonly registry: Registry;
  readonly podIP: string;
  /** The pod's output is kept here when the pod is gone. */
  readonly log: string;
  /** Milliseconds that a container takes to start, asked for at each start. */
  readonly slowness: () => number;
  /** What every container is told of the cluster. */
  readonly env: ReadonlyMap<string, string>;
}

type Over = NonNullable<Report["over"]>;

/** Runs one pod from its binding to its end, and keeps its status true. */
export class PodWorker {
  pod: Pod;
  readonly done: Promise<void>;
  readonly #at: Surroundings;
  readonly #volumes: PodVolumes;
  readonly #stopping = new AbortController();
  readonly #abandoned = new AbortController();
  #container: RunningContainer | undefined;
  #report: Report;
  #over: Over | undefined;
  #killer: NodeJS.Timeout | undefined;
  #image: Image | undefined;

  constructor(pod: Pod, at: Surroundings) {
    this.pod = pod;
    this.#at = at;
    this.#volumes = new PodVolumes(at.api, at.host, pod, at);
    this.#report = { state: { waiting: { reason: "ContainerCreating" } }, podIP: undefined, ready: false, restarts: 0, startTime: now() };
    mkdirSync(dirname(at.log), { recursive: true });
    appendFileSync(at.log, "");
    this.done = this.#live();
  }

  get container(): RunningContainer | undefined {
    return this.#container;
  }

  /** Where the pod's volumes lie on the node. */
  get dir(): string {
    return this.#volumes.dir;
  }

  /** The pod changed in the API: what counts is that somebody deletes it. */
  update(pod: Pod): void {
    this.pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined) this.#stop(pod.metadata.deletionGracePeriodSeconds ?? 30);
  }

  /** Ends the pod for a reason of the node's, at once. */
  fail(over: Over): void {
    this.#over ??= over;
    this.#stop(0);
  }

  /** As the kernel does it to a container that takes too much memory. */
  oomKill(): void {
    if (this.#container === undefined) return;
    this.#container.reason = "OOMKilled";
    this.#container.kill("SIGKILL");
  }

  /** The node is gone: nothing is told any more. */
  async abandon(): Promise<void> {
    this.#abandoned.abort();
    this.#stop(0);
    await this.done;
  }

  #stop(graceSeconds: number): void {
    this.#stopping.abort();
    clearTimeout(this.#killer);
    if (graceSeconds > 0) this.#container?.kill("SIGTERM");
    this.#killer = setTimeout(() => this.#container?.kill("SIGKILL"), graceSeconds * 1000);
  }

  async #live(): Promise<void> {
    const { activeDeadlineSeconds } = this.pod.spec;
    const expired = {
      phase: "Failed",
      reason: "DeadlineExceeded",
      message: "Pod was active on the node longer than the specified deadline",
    } as const;
    const deadline = activeDeadlineSeconds === undefined ? undefined : setTimeout(() => this.fail(expired), activeDeadlineSeconds * 1000);
    try {
      await this.#tell({});
      const ending = await this.#runUntilOver();
      await this.#end(ending);
    } finally {
      clearTimeout(deadline);
      clearTimeout(this.#killer);
      await this.#volumes.remove();
      rmSync(this.#containerDir(), { recursive: true, force: true });
    }
  }

  /** Starts the container, and again as often as the restart policy says; gives how it last ended. */
  async #runUntilOver(): Promise<Ending | undefined> {
    const { restartPolicy = "Always" } = this.pod.spec;
    for (let pause = 1000; ; pause = Math.min(pause * 2, 10_000)) {
      const ending = await this.#runOnce();
      const again = restartPolicy === "Always" || (restartPolicy === "OnFailure" && ending?.exitCode !== 0);
      if (ending === undefined || this.#stopping.signal.aborted || !again) return ending;
      await this.#tell({
        state: { waiting: { reason: "CrashLoopBackOff" } },
        ready: false,
        last: ending,
        restarts: this.#report.restarts + 1,
      });
      await this.#pause(pause);
    }
  }

  async #runOnce(): Promise<Ending | undefined> {
    const container = await this.#create();
    if (container === undefined) return undefined;
    this.#container = container;
    // A deletion that came while it was being made.
    if (this.#stopping.signal.aborted) container.kill("SIGKILL");
    await container.started;
    const { readinessProbe } = this.pod.spec.containers[0] ?? {};
    const over = new AbortController();
    await this.#tell({
      state: { running: { startedAt: container.startedAt } },
      ready: readinessProbe === undefined,
      podIP: this.#at.podIP,
    });
    if (readinessProbe !== undefined)
      void probe(this.pod, this.#at.podIP, { signal: over.signal, tell: (ready) => void this.#tell({ ready }) });
    const ending = await container.ended;
    over.abort();
    this.#container = undefined;
    return ending;
  }

  /** Tries until everything is there that the container needs, or the pod is deleted. */
  async #create(): Promise<RunningContainer | undefined> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        this.#image ??= await this.#pull();
        const sources = await this.#volumes.make();
        await this.#pause(this.#at.slowness());
        const own = await environment(this.#at.api, this.pod, this.#at);
        if (signal.aborted) return undefined;
        rmSync(this.#containerDir(), { recursive: true, force: true });
        mkdirSync(this.#containerDir(), { recursive: true });
        const env = new Map([...this.#at.env, ...own]);
        return new RunningContainer({
          pod: this.pod,
          host: this.#at.host,
          image: this.#image,
          sources,
          env,
          dir: this.#containerDir(),
          log: this.#at.log,
        });
      } catch (cause) {
        await this.#wait(cause);
      }
    }
    return undefined;
  }

  async #wait(cause: unknown): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    const { reason, message } = cause instanceof PullError ? cause : asNotYet(cause);
    await this.#tell({ state: { waiting: { reason, message } } });
    if (cause instanceof NotYet) await this.#event(reason === "ContainerCreating" ? "FailedMount" : "Failed", message);
    await this.#pause(500);
  }

  async #pull(): Promise<Image> {
    const { image = "" } = this.pod.spec.containers[0] ?? {};
    const found = this.#at.registry(image);
    if (found !== undefined) return found;
    const message = `failed to pull and unpack image "${image}": not found`;
    const { state } = this.#report;
    if (!("waiting" in state) || state.waiting.reason !== "ErrImagePull") throw new PullError("ErrImagePull", message);
    await this.#event("Failed", `Failed to pull image "${image}": ${message}`);
    for (let tries = 0; this.#at.registry(image) === undefined && !this.#stopping.signal.aborted; tries += 1) {
      if (tries === 0)
        await this.#tell({
          state: { waiting: { reason: "ImagePullBackOff", message: `Back-off pulling image "${image}": ErrImagePull: ${message}` } },
        });
      await this.#pause(300);
    }
    return await this.#pull();
  }

  async #end(ending: Ending | undefined): Promise<void> {
    const over = this.#over ?? { phase: ending?.exitCode === 0 ? "Succeeded" : "Failed" };
    const state: ContainerState = ending === undefined ? this.#report.state : { terminated: ending };
    await this.#tell({ state, ready: false, over });
    // A pod that is over stays as an object, and its directory until someone deletes it.
    while (this.pod.metadata.deletionTimestamp === undefined && !this.#abandoned.signal.aborted) await sleep(100);
    if (this.#abandoned.signal.aborted) return;
    const options = { gracePeriodSeconds: 0, preconditions: { uid: this.pod.metadata.uid } };
    await persist(this.#abandoned.signal, () => this.#at.api.remove(podPath(this.pod), options));
  }

  async #tell(change: Partial<Report>): Promise<void> {
    this.#report = { ...this.#report, ...change };
    if (this.#abandoned.signal.aborted) return;
    const { api } = this.#at;
    // The uid makes sure that a pod of the same name that came after is not meant.
    const patch = { metadata: { uid: this.pod.metadata.uid }, ...statusOf(this.pod, this.#report) };
    await persist(this.#abandoned.signal, () => api.patch(`${podPath(this.pod)}/status`, patch, "strategic-merge"));
  }

  async #event(reason: string, message: string): Promise<void> {
    await recordEvent(this.#at.api, this.pod, { reason, message, node: this.#at.host.name }).catch(() => undefined);
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }

  #containerDir(): string {
    return join(this.#at.host.kubelet, "containers", this.pod.metadata.uid);
  }
}

class PullError extends Error {
  override readonly name: string = "PullError";
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}
