import { Counter, type Registry } from "prom-client";

import { resultOf } from "../agents/result.ts";
import type { Caches } from "../context.ts";
import { podState } from "../dispatch/pod-state.ts";
import type { Pod } from "../kinds.ts";
import { PREFIX } from "./reading.ts";

const CLASSES = ["get", "head", "list", "put", "delete"] as const;

/** What agents asked of S3 stores, counted as each of them ends: stores charge by class of request. */
export class RequestFigures {
  readonly #requests: Counter;

  constructor(registry: Registry) {
    this.#requests = new Counter({
      name: `${PREFIX}s3_requests_total`,
      help: "Requests that agents sent to S3 stores, tries that failed counted in, by class (get, head, list, put, delete): of those that lived to report.",
      labelNames: ["class"],
      registers: [registry],
    });
    // `increase()` does not see the first of a series that was not there before.
    for (const name of CLASSES) this.#requests.inc({ class: name }, 0);
  }

  /** Counts from now on. Returns the way to stop that. @param namespace the agents': what looks like one elsewhere is not believed */
  follow({ agentPods }: Pick<Caches, "agentPods">, namespace: string): () => void {
    return agentPods.subscribe({ updated: (before, pod) => pod.metadata.namespace === namespace && this.changed(before, pod) });
  }

  changed(before: Pod, pod: Pod): void {
    const state = podState(pod);
    if (state.phase !== "reported" || podState(before).phase === "reported") return;
    const { requests } = resultOf(state.message);
    if (requests !== undefined) for (const name of CLASSES) this.#requests.inc({ class: name }, requests[name]);
  }
}
