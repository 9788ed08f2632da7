import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { Metrics } from "../../../src/controller/serve/metrics.ts";
import type { Scene } from "../../../src/controller/serve/sight.ts";
import type { Pod } from "../../../src/controller/kinds.ts";
import { selectAll, selectMachines } from "../../../src/controller/policy/select.ts";
import { parseMetrics, valueOf } from "../../support/prometheus.ts";
import { backup, type Cluster, condition, listersOf, machine, NOW, point, policy, repository, sceneOf } from "./scene.ts";

/** A shop with a machine that is well, one that is behind, one without a point, one that nobody wants and one that is gone but for its point. */
const cluster: Cluster = {
  policies: [policy("gold", { rpo: "24h", selector: { matchLabels: { tier: "gold" } } }), policy("rest", { selector: {} })],
  machines: [
    machine("shop", "web", { tier: "gold" }),
    machine("shop", "db", { tier: "gold" }),
    machine("shop", "new", { tier: "gold" }),
    machine("shop", "other"),
    machine("shop", "unwanted", { "thinstream.dev/backup": "false" }),
  ],
  points: [
    point({ namespace: "shop", name: "web" }, 1, "2026-11-20T10:00:00Z"),
    point({ namespace: "shop", name: "web" }, 2, "2026-11-21T10:00:00Z"),
    point({ namespace: "shop", name: "db" }, 1, "2026-11-19T10:00:00Z"),
    point({ namespace: "gone", name: "old" }, 7, "2026-10-01T00:00:00Z"),
    point({ name: "domain1" }, 1, "2026-11-21T11:00:00Z"),
  ],
  repositories: [
    repository("main", {
      conditions: [condition("Ready", "True", "Available"), condition("CatalogSynced", "True", "Synced")],
      usage: { points: 5, machines: 4, storedBytes: 123_456_789_012, stored: "115 GiB" },
      lastSyncTime: "2026-11-21T11:55:00Z",
      prune: { lastSuccessTime: "2026-11-21T04:30:00Z", packBytes: 234_567_890_123, waitingBytes: 1_000_000, needlessBytes: 2_000_000 },
      check: { damagedPoints: 2 },
    } as never),
    repository("far", { conditions: [condition("Ready", "False", "EndpointUnreachable")] } as never),
  ],
  backups: [
    backup("a", { conditions: [condition("Succeeded", "True")] } as never),
    backup("b", { conditions: [condition("Succeeded", "False", "DeadlineExceeded")] } as never),
    backup("c", { conditions: [condition("Succeeded", "Unknown", "BackingUp")], agentPod: { namespace: "t", name: "p" } } as never),
    backup("d", {
      conditions: [condition("Succeeded", "Unknown", "RepositoryNotFound"), condition("Stalled", "True", "RepositoryNotFound")],
    } as never),
    backup("e", undefined),
  ],
};

const figures = {
  depth: 3,
  inHand: 2,
  delayed: 4,
  oldestMs: 1500,
  longestRunningMs: 250,
  done: 100,
  failed: 7,
  waitedMs: 12_345,
  workedMs: 67_890,
};

async function samples(scene: Scene): Promise<string> {
  const text = await new Metrics(() => scene, { ofProcess: false }).text();
  const counted = /_(runs|bytes|bitmap|failures|s3_requests)_total|duration/;
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#") && (line.includes("queue") || !counted.test(line)))
    .join("\n");
}

describe("what is read at a scrape", () => {
  test("of a leader, to the letter", async () => {
    const scene = sceneOf(cluster, {
      queues: [{ name: "BackupPolicy", figures }],
      answers: [
        { verb: "GET", code: 200, count: 12 },
        { verb: "PUT", code: 409, count: 1 },
        { verb: "GET", code: null, count: 2 },
      ],
    });
    await expect(await samples(scene)).toMatchFileSnapshot("../../golden/controller/metrics.txt");
  });

  test("of a stand-by: itself alone", async () => {
    const scene = sceneOf(null, { answers: [{ verb: "GET", code: 200, count: 12 }] });
    expect(await samples(scene)).toBe('thinstream_leader 0\nthinstream_kube_requests_total{verb="GET",code="200"} 12');
  });

  test("a machine that is gone is not told of when its last point goes", async () => {
    let scene = sceneOf({ ...cluster, machines: [] });
    const metrics = new Metrics(() => scene, { ofProcess: false });
    const name = "thinstream_backup_last_successful_timestamp_seconds";
    expect(valueOf(parseMetrics(await metrics.text()), name, { namespace: "gone", vm: "old" })).toBe(Date.parse("2026-10-01") / 1000);
    scene = sceneOf({ ...cluster, machines: [], points: [] });
    const after = parseMetrics(await metrics.text());
    expect(after.get(name)?.samples).toEqual([]);
    expect(after.get("thinstream_vm_rpo_breached")?.samples).toEqual([]);
  });

  test("time alone breaks an rpo, and no run's word mends it", async () => {
    const labels = { policy: "gold", namespace: "shop", vm: "web" };
    const at = async (now: string): Promise<number | undefined> => {
      const scene = sceneOf(
        { ...cluster, backups: [backup("x", { conditions: [condition("Succeeded", "True")] } as never)] },
        { now: new Date(now) },
      );
      return valueOf(parseMetrics(await new Metrics(() => scene, { ofProcess: false }).text()), "thinstream_vm_rpo_breached", labels);
    };
    expect(await at("2026-11-22T10:00:00Z")).toBe(0);
    expect(await at("2026-11-22T10:00:01Z")).toBe(1);
  });

  test("without KubeVirt there are points alone", async () => {
    const families = parseMetrics(await new Metrics(() => sceneOf({ ...cluster, machines: null }), { ofProcess: false }).text());
    expect(valueOf(families, "thinstream_policy_matched_vms", { policy: "gold" })).toBe(0);
    expect(families.get("thinstream_backup_last_successful_timestamp_seconds")?.samples).toHaveLength(4);
  });

  test("policies select in one go what each selects by itself", () => {
    const listers = listersOf(cluster);
    const all = selectAll(listers);
    expect([...all.keys()]).toEqual(["gold", "rest"]);
    for (const one of cluster.policies ?? []) {
      const alone = selectMachines(one, listers);
      expect(all.get(one.metadata.name)?.toSorted((a, b) => (a.name < b.name ? -1 : 1))).toEqual(alone);
    }
    expect(all.get("rest")).toHaveLength(4);
  });

  test("a thousand machines, a hundred policies, thirty thousand points: well within a scrape's time", async () => {
    const machines = Array.from({ length: 1000 }, (_, i) => machine(`ns${i % 50}`, `vm${i}`, { tier: `t${i % 100}` }));
    const policies = Array.from({ length: 100 }, (_, i) => policy(`p${i}`, { rpo: "24h", selector: { matchLabels: { tier: `t${i}` } } }));
    const points = machines.flatMap(({ metadata: { namespace = "", name } }) =>
      Array.from({ length: 30 }, (_, i) => point({ namespace, name }, i + 1, new Date(NOW.getTime() - (30 - i) * 3_600_000).toISOString())),
    );
    const scene = sceneOf({ machines, policies, points, repositories: cluster.repositories ?? [] });
    const metrics = new Metrics(() => scene, { ofProcess: false });
    const begun = performance.now();
    const families = parseMetrics(await metrics.text());
    console.info(`a scrape of 1,000 machines: ${Math.round(performance.now() - begun)} ms`);
    expect(performance.now() - begun).toBeLessThan(3000);
    expect(families.get("thinstream_vm_rpo_breached")?.samples.filter(({ value }) => value === 0)).toHaveLength(1000);
  });
});

describe("what runs came to", () => {
  const open = backup("r", { conditions: [condition("Succeeded", "Unknown", "BackingUp")] } as never);
  const disk = (level: string, bytes: number): object => ({
    name: "a",
    level,
    dirtyBytes: bytes,
    readBytes: bytes * 2,
    uploadedBytes: bytes * 3,
  });
  const ended = (pointId: string, disks: readonly object[], level: string): ReturnType<typeof backup> =>
    backup("r", {
      conditions: [condition("Succeeded", "True")],
      level,
      pointId,
      disks,
      startTime: "2026-11-21T11:00:00Z",
      completionTime: "2026-11-21T11:01:30Z",
    } as never);
  const fresh = (): Metrics => new Metrics(() => sceneOf({}), { ofProcess: false });

  test("an end is counted once, with its bytes, its time, and disks that lost their bitmap", async () => {
    const metrics = fresh();
    const end = ended("0a-4", [disk("Full", 10), disk("Incremental", 1)], "Full");
    metrics.runs.backupChanged(open, open);
    metrics.runs.backupChanged(open, end);
    metrics.runs.backupChanged(end, end);
    const families = parseMetrics(await metrics.text());
    expect(valueOf(families, "thinstream_backup_runs_total", { result: "succeeded", level: "Full" })).toBe(1);
    for (const [kind, bytes] of Object.entries({ dirty: 11, read: 22, uploaded: 33 })) {
      expect(valueOf(families, "thinstream_backup_bytes_total", { kind })).toBe(bytes);
    }
    expect(valueOf(families, "thinstream_backup_lost_bitmap_total")).toBe(1);
    const duration = families.get("thinstream_backup_duration_seconds")?.samples ?? [];
    expect(duration.find(({ name, labels }) => name.endsWith("_sum") && labels["level"] === "Full")?.value).toBe(90);
    expect(duration.filter(({ labels, value }) => Number(labels["le"]) === 60 && value === 0)).toHaveLength(1);
    expect(duration.filter(({ labels, value }) => Number(labels["le"]) === 120 && value === 1)).toHaveLength(1);
  });

  test("a first backup has lost nothing, nor has one that was to be full", async () => {
    const metrics = fresh();
    metrics.runs.backupChanged(open, ended("0a-1", [disk("Full", 10)], "Full"));
    const asked = ended("0a-5", [disk("Full", 10)], "Full");
    metrics.runs.backupChanged(open, { ...asked, spec: { ...asked.spec, level: "Full" } });
    expect(valueOf(parseMetrics(await metrics.text()), "thinstream_backup_lost_bitmap_total")).toBe(0);
  });

  test("a failed run has no bytes and no level", async () => {
    const metrics = fresh();
    metrics.runs.backupChanged(open, backup("r", { conditions: [condition("Succeeded", "False", "Cancelled")] } as never));
    const families = parseMetrics(await metrics.text());
    expect(valueOf(families, "thinstream_backup_runs_total", { result: "failed", level: "Unknown" })).toBe(1);
    expect(valueOf(families, "thinstream_backup_bytes_total", { kind: "read" })).toBe(0);
  });

  test("an attempt is counted once, and reasons stay a closed list", async () => {
    const metrics = fresh();
    const failed = (attempt: number, reason: string): void => metrics.runs.attemptFailed({ work: "backup", run: open, attempt, reason });
    failed(1, "RepositoryUnreachable");
    failed(1, "RepositoryUnreachable");
    failed(2, "something that nobody has heard of");
    const families = parseMetrics(await metrics.text());
    const counted = families.get("thinstream_backup_attempt_failures_total")?.samples.filter(({ value }) => value > 0);
    expect(counted?.map(({ labels, value }) => [labels["reason"], value])).toEqual([
      ["RepositoryUnreachable", 1],
      ["Other", 1],
    ]);
  });
});

test("an agent's requests are counted once, when it ends", async () => {
  const metrics = new Metrics(() => sceneOf({}), { ofProcess: false });
  const pod = (message?: string): Pod => {
    const terminated = message === undefined ? {} : { containerStatuses: [{ state: { terminated: { exitCode: 0, message } } }] };
    const status = { phase: message === undefined ? "Running" : "Succeeded", ...terminated };
    return { apiVersion: "v1", kind: "Pod", metadata: { name: "ts-backup", namespace: "thinstream-system" }, status };
  };
  const requests = { get: 5, head: 0, list: 1, put: 7, delete: 0 };
  const ended = pod(JSON.stringify({ version: 1, outcome: "Succeeded", message: "", warnings: [], requests }));
  metrics.requests.changed(pod(), ended);
  metrics.requests.changed(ended, ended);
  metrics.requests.changed(pod(), pod("not what an agent says"));
  const families = parseMetrics(await metrics.text());
  for (const [name, count] of Object.entries(requests))
    expect(valueOf(families, "thinstream_s3_requests_total", { class: name })).toBe(count);
});

test("docs/metrics.md lists every metric as it is", async () => {
  const page = readFileSync(join(import.meta.dirname, "../../../docs/metrics.md"), "utf8");
  const rows = page
    .split("\n")
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\", "")))
    .filter(([, name]) => name?.startsWith("`thinstream_"));
  const written = rows.map((row) => row.slice(1, -1).join(" | "));
  const metrics = new Metrics(() => sceneOf({}), { ofProcess: true });
  const all = (await metrics.registry.getMetricsAsJSON()).map(({ name, type, help }) => {
    const { labelNames = [] } = (metrics.registry.getSingleMetric(name) ?? {}) as { readonly labelNames?: readonly string[] };
    return `\`${name}\` | ${String(type)} | ${labelNames.map((label) => `\`${label}\``).join(", ")} | ${help}`;
  });
  expect(written.toSorted()).toEqual(all.toSorted());
});
