import type { Informer, KubeClient, KubeObject, WorkQueue } from "../../kube/index.ts";
import type { Caches } from "../context.ts";
import { Metrics } from "./metrics.ts";
import type { Scene } from "./sight.ts";

/** milliseconds after which work under way counts as stuck; a repository's catalog of many thousand points may be mirrored for longer than others work */
const STUCK_MS = 10 * 60_000;
const STUCK: Readonly<Record<string, number>> = { BackupRepository: 2 * STUCK_MS };

/** How the controller stands: what its endpoints answer from. The controller says what it has as it gets there. */
export class Standing {
  readonly metrics: Metrics;
  readonly #signal: AbortSignal;
  #caches: Caches | null = null;
  #queues: readonly Pick<WorkQueue, "name" | "figures">[] = [];
  #leads = false;

  /** @param signal aborts when the controller has to end */
  constructor(client: Pick<KubeClient, "answers">, signal: AbortSignal, now: () => Date) {
    this.#signal = signal;
    const scene = (): Scene => ({
      caches: this.#leads ? this.#caches : null,
      queues: this.#queues,
      answers: client.answers,
      leads: this.#leads,
      now: now(),
    });
    this.metrics = new Metrics(scene, { ofProcess: true });
  }

  follows(caches: Caches): void {
    this.#caches = caches;
  }

  /** It leads from now on. Returns the way to end that. */
  leads(queues: readonly Pick<WorkQueue, "name" | "figures">[]): () => void {
    this.#queues = queues;
    this.#leads = true;
    const stop = this.#caches === null ? null : this.metrics.runs.follow(this.#caches);
    return () => {
      stop?.();
      this.#leads = false;
      this.#queues = [];
    };
  }

  /** Why it should be started anew; null while it is well. That the event loop turns is shown by the answer itself. */
  get sickness(): string | null {
    const stuck = this.#queues.find(({ name, figures }) => figures.longestRunningMs > (STUCK[name] ?? STUCK_MS));
    if (stuck === undefined) return null;
    const minutes = Math.floor(stuck.figures.longestRunningMs / 60_000);
    return `work on a ${stuck.name} is under way for ${minutes} min and counts as stuck`;
  }

  /** Why it cannot do its part yet, or no longer; null when it can. One that waits to lead is ready. */
  get unreadiness(): string | null {
    if (this.#signal.aborted) return "it is told to end";
    if (this.#caches === null) return "the API server did not answer yet";
    const all = Object.values(this.#caches).filter((informer): informer is Informer<KubeObject> => informer !== null);
    const waiting = all.filter(({ hasSynced }) => !hasSynced).map(({ kind }) => kind.kind);
    return waiting.length === 0 ? null : `waits for the cluster's ${waiting.join(", ")}`;
  }
}
