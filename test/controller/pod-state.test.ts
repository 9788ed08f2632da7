import { describe, expect, test } from "vitest";

import { type PodFacts, podState } from "../../src/controller/dispatch/pod-state.ts";

const REPORT = '{"version":1,"outcome":"Succeeded"}';
type Status = NonNullable<PodFacts["status"]>;
type State = NonNullable<NonNullable<Status["containerStatuses"]>[number]["state"]>;

const pod = (status: Status, state?: State, deleted = false): PodFacts => ({
  metadata: deleted ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {},
  status: { ...status, ...(state === undefined ? {} : { containerStatuses: [{ state }] }) },
});

describe("what a pod's status says of its agent", () => {
  test.each<[string, PodFacts, Record<string, unknown>]>([
    ["nothing yet", { metadata: {} }, { phase: "starting", problem: null }],
    ["creating", pod({ phase: "Pending" }, { waiting: { reason: "ContainerCreating" } }), { phase: "starting", problem: null }],
    [
      "no node takes it",
      pod({ phase: "Pending", conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/3 nodes" }] }),
      { phase: "starting", problem: { reason: "Unschedulable", message: "0/3 nodes" } },
    ],
    [
      "no image",
      pod({ phase: "Pending" }, { waiting: { reason: "ImagePullBackOff", message: "back-off" } }),
      { phase: "starting", problem: { reason: "ImageUnavailable", message: "back-off" } },
    ],
    [
      "a Secret is missing",
      pod({ phase: "Pending" }, { waiting: { reason: "CreateContainerConfigError", message: 'secret "x" not found' } }),
      { phase: "starting", problem: { reason: "ConfigurationInvalid", message: 'secret "x" not found' } },
    ],
    ["running, no address yet", pod({ phase: "Running" }, { running: {} }), { phase: "starting" }],
    ["running", pod({ phase: "Running", podIP: "10.0.0.7" }, { running: {} }), { phase: "running", address: "10.0.0.7" }],
    ["told to end, still running", pod({ phase: "Running", podIP: "10.0.0.7" }, { running: {} }, true), { phase: "running" }],
    ["ended well", pod({ phase: "Succeeded" }, { terminated: { exitCode: 0, message: REPORT } }), { phase: "reported", message: REPORT }],
    ["ended badly", pod({ phase: "Failed" }, { terminated: { exitCode: 1, message: REPORT } }), { phase: "reported" }],
    [
      "evicted after it had the last word",
      pod({ phase: "Failed", reason: "Evicted" }, { terminated: { exitCode: 0, message: REPORT } }),
      { phase: "reported", message: REPORT },
    ],
    [
      "evicted",
      pod({ phase: "Failed", reason: "Evicted", message: "low on memory" }),
      { phase: "lost", reason: "Evicted", message: "low on memory" },
    ],
    [
      "drained",
      pod(
        { phase: "Failed", conditions: [{ type: "DisruptionTarget", status: "True", reason: "EvictionByEvictionAPI" }] },
        { terminated: { exitCode: 137 } },
      ),
      { phase: "lost", reason: "Evicted" },
    ],
    [
      "out of memory",
      pod({ phase: "Failed" }, { terminated: { exitCode: 137, reason: "OOMKilled" } }),
      { phase: "lost", reason: "OutOfMemory", message: expect.stringMatching(/memory limit \(exit code 137\)$/) },
    ],
    ["too long", pod({ phase: "Failed", reason: "DeadlineExceeded" }), { phase: "lost", reason: "DeadlineExceeded" }],
    ["its node is gone", pod({ phase: "Unknown", reason: "NodeLost" }, { running: {} }), { phase: "lost", reason: "NodeLost" }],
    [
      "ended without a word, the log's tail in its place",
      pod({ phase: "Failed" }, { terminated: { exitCode: 139, message: "Segmentation fault" } }),
      { phase: "lost", reason: "Killed", message: "it ended without a word (exit code 139): Segmentation fault" },
    ],
    ["deleted", pod({ phase: "Failed" }, { terminated: { exitCode: 143 } }, true), { phase: "lost", reason: "Deleted" }],
  ])("%s", (_name, facts, expected) => {
    expect(podState(facts)).toMatchObject(expected);
  });
});
