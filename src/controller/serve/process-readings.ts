import type { WorkQueueFigures } from "../../kube/index.ts";
import { alone, type Reading } from "./reading.ts";

/** What this controller knows of itself. */
export const processReadings: readonly Reading[] = [
  {
    name: "leader",
    type: "gauge",
    help: "1 where this replica leads, else 0. Only the leader tells what the cluster has: policies, virtual machines, runs and repositories.",
    labels: [],
    read: ({ scene }) => alone(scene.leads ? 1 : 0),
  },
  queue("depth", "gauge", "Keys in line in a work queue.", ({ depth }) => depth),
  queue("in_hand", "gauge", "Keys of a work queue that are worked on.", ({ inHand }) => inHand),
  queue("delayed", "gauge", "Keys of a work queue that wait for a later time.", ({ delayed }) => delayed),
  queue("oldest_seconds", "gauge", "How long the first in line of a work queue waits already.", ({ oldestMs }) => oldestMs / 1000),
  queue(
    "longest_running_seconds",
    "gauge",
    "How long the oldest work under way of a work queue takes already.",
    ({ longestRunningMs }) => longestRunningMs / 1000,
  ),
  queue("done_total", "counter", "Keys of a work queue that were worked on, failures counted in.", ({ done }) => done),
  queue("failures_total", "counter", "Keys of a work queue whose work failed and is tried again.", ({ failed }) => failed),
  queue("waited_seconds_total", "counter", "Time that keys stood in line in a work queue.", ({ waitedMs }) => waitedMs / 1000),
  queue("worked_seconds_total", "counter", "Time that work on the keys of a work queue took.", ({ workedMs }) => workedMs / 1000),
  {
    name: "kube_requests_total",
    type: "counter",
    help: "Requests to the Kubernetes API, watches counted in, by HTTP method and status; <error> where there was no answer.",
    labels: ["verb", "code"],
    *read({ scene }) {
      for (const { verb, code, count } of scene.answers)
        yield { labels: { verb, code: code === null ? "<error>" : `${code}` }, value: count };
    },
  },
];

function queue(name: string, type: Reading["type"], help: string, valueOf: (figures: WorkQueueFigures) => number): Reading {
  return {
    name: `workqueue_${name}`,
    type,
    help,
    labels: ["queue"],
    *read({ scene }) {
      for (const { name: of, figures } of scene.queues) yield { labels: { queue: of }, value: valueOf(figures) };
    },
  };
}
