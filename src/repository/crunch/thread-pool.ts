import { availableParallelism } from "node:os";
import { setFlagsFromString } from "node:v8";
import { Worker } from "node:worker_threads";

import { RepositoryError } from "../errors.ts";
import type { Done, EndJob, Job, ThreadSetup } from "./jobs.ts";

interface Pending {
  readonly job: Job;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

interface Lane {
  readonly worker: Worker;
  /** jobs the thread has, oldest first */
  readonly running: Pending[];
}

/** Jobs a thread has at a time: one in work, one at hand so that it never waits for the event loop. */
const DEPTH = 2;
const source = new URL(import.meta.url.endsWith(".ts") ? "./worker.ts" : "./worker.js", import.meta.url);

/** A fixed set of threads that seal and open granules off the event loop. Started with the first job. */
export class ThreadPool {
  readonly #setup: ThreadSetup;
  readonly #size: number;
  readonly #waiting: Pending[] = [];
  #lanes: Lane[] | null = null;
  #failure: RepositoryError | null = null;

  constructor(setup: ThreadSetup, size: number = Math.max(2, availableParallelism())) {
    this.#setup = setup;
    this.#size = size;
  }

  /** Starts the threads now, so that the first job does not wait for them. */
  warm(): void {
    // Threads collect their young garbage themselves, see worker.ts; the flag is read when their contexts are made.
    setFlagsFromString("--expose-gc");
    this.#lanes ??= Array.from({ length: this.#size }, () => this.#start());
  }

  async run(job: Job): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.warm();
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject });
      this.#feed();
    });
  }

  /** Lets the threads finish what they have and end; jobs that no thread has yet are rejected. */
  async close(): Promise<void> {
    const lanes = this.#lanes ?? [];
    this.#fail(new RepositoryError("invalid", "The worker threads were closed"));
    this.#lanes = [];
    await Promise.all(
      lanes.map(async ({ worker }) => {
        const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
        worker.postMessage({ op: "end" } satisfies EndJob);
        if (worker.threadId !== -1) await ended;
      }),
    );
  }

  #start(): Lane {
    const worker = new Worker(source, { workerData: this.#setup, resourceLimits: { maxYoungGenerationSizeMb: 6 } });
    const lane: Lane = { worker, running: [] };
    worker.on("message", (done: Done) => {
      const pending = lane.running.shift();
      if (done.ok) pending?.resolve();
      else pending?.reject(new RepositoryError("damaged", `A worker thread failed: ${done.message}`));
      this.#feed();
    });
    worker.on("error", (cause) =>
      this.#fail(
        new RepositoryError("invalid", `A worker thread died: ${cause instanceof Error ? cause.message : String(cause)}`, { cause }),
      ),
    );
    return lane;
  }

  #feed(): void {
    const lanes = this.#lanes ?? [];
    while (this.#waiting.length > 0) {
      const lane = lanes.reduce<Lane | null>(
        (least, one) => (least === null || one.running.length < least.running.length ? one : least),
        null,
      );
      if (lane === null || lane.running.length >= DEPTH) return;
      const pending = this.#waiting.shift() as Pending;
      lane.running.push(pending);
      lane.worker.postMessage(pending.job);
    }
  }

  #fail(failure: RepositoryError): void {
    this.#failure ??= failure;
    for (const pending of [...this.#waiting.splice(0), ...(this.#lanes ?? []).flatMap((lane) => lane.running.splice(0))])
      pending.reject(this.#failure);
  }
}
