import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { backups, policies } from "../../src/controller/kinds.ts";
import { type KubeClient, type ResourceKind } from "../../src/kube/index.ts";
import { mapConcurrently } from "../../src/lib/concurrency.ts";
import { applyKubeVirt, type AuditedRequest, ControlPlane, isWrite } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { patience } from "../support/patience.ts";
import { type Family, parseMetrics, valueOf } from "../support/prometheus.ts";
import { bulkClient, makeFleet } from "./fleet.ts";
import { applyCrds, Operator } from "./operator.ts";

/** `SOAK=1`: what the controller is built for, which takes the API server minutes to be filled with; else a fifth of it. */
const FULL = process.env["SOAK"] === "1";
const SIZE = FULL ? { machines: 1000, policies: 100, pointsOfEach: 30 } : { machines: 200, policies: 100, pointsOfEach: 30 };
/** MiB */
const MEMORY = 300;
const START_MS = 60_000;
const TICK_MS = 5000;
const IDLE_MS = FULL ? 60_000 : 30_000;
/** What a repository may have under way where it does not say. */
const REPOSITORY_RUNS = 20;
/** A run that waits for its turn looks again every fifteen seconds. */
const QUIET_MS = 20_000;

describe.skipIf(skipWithout("cluster"))(`the controller over ${SIZE.machines} machines`, { timeout: 900_000 }, () => {
  let plane: ControlPlane;
  let client: KubeClient;
  let operator: Operator;

  beforeAll(async () => {
    plane = await ControlPlane.start();
    client = await bulkClient(plane.admin);
    await applyCrds(plane.admin);
    await applyKubeVirt(plane.admin);
    await makeFleet(plane, client, SIZE);
    operator = new Operator(plane);
  }, 1_800_000);
  afterAll(async () => {
    await operator?.stop();
    client?.close();
    await plane?.stop();
  });

  const scrape = async (): Promise<ReadonlyMap<string, Family>> => parseMetrics((await operator.ask("/metrics")).text);
  const requests = (from: Date): AuditedRequest[] => plane.requests().filter((one) => one.user === "admin" && one.at >= from);

  async function count(kind: ResourceKind): Promise<number> {
    const { value } = await client.list(kind, { limit: 1 }).next();
    return (value?.items.length ?? 0) + (value?.remaining ?? 0);
  }

  /** Waits until nothing is left to be looked at. */
  async function settled(): Promise<void> {
    const busy = async (): Promise<number> => {
      const families = await scrape();
      const queues = ["depth", "in_hand"].flatMap((name) => families.get(`thinstream_workqueue_${name}`)?.samples ?? []);
      return queues.reduce((sum, { value }) => sum + value, 0);
    };
    await expect.poll(busy, { timeout: 240_000, interval: 200 }).toBe(0);
  }

  /** Starts the controller; milliseconds until its copies are complete and it leads, and until it has looked at everything. */
  async function start(): Promise<{ readonly leading: number; readonly done: number }> {
    const begun = performance.now();
    await operator.start();
    const leading = performance.now() - begun;
    await settled();
    const done = performance.now() - begun;
    // No node runs the agent that would read the catalog. Without it that is tried again in ten minutes; with it the repository is not ready after five.
    await plane.admin.kubectl(["delete", "pods", "-A", "-l", "thinstream.dev/work=catalog", "--wait=false"]);
    console.info(`start: leads after ${seconds(leading)}, has looked at everything after ${seconds(done)}; ${told(operator.memory())}`);
    return { leading, done };
  }

  test("a start is over within a minute, and finds each machine protected once and no point to forget", async () => {
    const from = new Date();
    const { done } = await start();
    expect(done).toBeLessThanOrEqual(START_MS * patience());
    const families = await scrape();
    const protectedNow = families.get("thinstream_policy_protected_vms")?.samples ?? [];
    expect(protectedNow).toHaveLength(SIZE.policies);
    expect(protectedNow.reduce((sum, { value }) => sum + value, 0)).toBe(SIZE.machines);
    const writes = requests(from).filter(isWrite);
    expect(writes.filter(({ resource }) => resource.startsWith("restorepoints"))).toEqual([]);
    expect(operator.memory().peak).toBeLessThanOrEqual(MEMORY);
  });

  test("with nothing to do there is at most one write a second", async () => {
    // What it found at its start is told first, in events.
    const said = (): number => requests(new Date(Date.now() - 5000)).filter((one) => isWrite(one) && one.resource === "events").length;
    await expect.poll(said, { timeout: 180_000, interval: 1000 }).toBe(0);
    const from = new Date();
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const writes = requests(from).filter(isWrite);
    console.info(`idle: ${writes.length} writes in ${IDLE_MS / 1000} s (${tally(writes)})`);
    expect(writes.length, tally(writes)).toBeLessThanOrEqual(IDLE_MS / 1000);
    expect(writes.length, "the lease is renewed").toBeGreaterThan(0);
  });

  test("runs that are due at the same moment for every machine are made within seconds", async () => {
    const due = await scheduleAll();
    await new Promise((resolve) => setTimeout(resolve, due.getTime() - Date.now()));
    const used = await processSeconds();
    // When the last was made says the API server's log: who asks often takes its time.
    await expect.poll(async () => await count(backups), { timeout: 120_000, interval: 1000 }).toBe(SIZE.machines);
    const cpu = (await processSeconds()) - used;
    const made = requests(due).filter(
      ({ verb, resource, code }) => verb === "create" && resource === "virtualmachinebackups" && code === 201,
    );
    const last = Math.max(...made.map(({ at }) => at.getTime())) - due.getTime();
    console.info(
      `tick: the last of ${made.length} runs was asked for ${seconds(last)} after its time, ${cpu.toFixed(1)} s of CPU; ${told(operator.memory())}`,
    );
    expect(made).toHaveLength(SIZE.machines);
    expect(cpu * 1000).toBeLessThanOrEqual(TICK_MS);
    expect(last).toBeLessThanOrEqual(TICK_MS * patience());
  });

  test("runs that wait for their turn write nothing, and no more machines are begun than may be at a time", async () => {
    const waiting = async (): Promise<number> => valueOf(await scrape(), "thinstream_backup_runs_by_state", { state: "waiting" }) ?? 0;
    await expect.poll(waiting, { timeout: 120_000 }).toBe(SIZE.machines);
    await settledRuns();
    const from = new Date();
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const all = requests(from);
    const writes = all.filter(isWrite);
    console.info(
      `waiting: ${all.length} requests in ${IDLE_MS / 1000} s, ${writes.length} of them writes (${tally(writes)}); ${told(operator.memory())}`,
    );
    expect(writes.length, tally(writes)).toBeLessThanOrEqual(IDLE_MS / 1000);
    // There is no node: none of those that were begun gets on.
    const { items } = await plane.admin.get<{ readonly items: readonly unknown[] }>("pods", "-A", "-l", "thinstream.dev/work=hold");
    expect(items.length).toBeGreaterThan(0);
    expect(items.length).toBeLessThanOrEqual(REPOSITORY_RUNS);
  });

  test("one that follows makes no run again, in no more memory", async () => {
    await operator.stop("SIGKILL");
    const from = new Date();
    const { leading } = await start();
    expect(leading).toBeLessThanOrEqual(START_MS * patience());
    const made = requests(from).filter(({ verb, resource }) => verb === "create" && resource === "virtualmachinebackups");
    expect(made).toEqual([]);
    expect(operator.memory().peak).toBeLessThanOrEqual(MEMORY);
  });

  /** Waits until every run has said what it waits for, and has nothing else to say for longer than it takes them all to look again. */
  async function settledRuns(): Promise<void> {
    const said = (): number =>
      requests(new Date(Date.now() - QUIET_MS)).filter(
        ({ resource, verb }) => verb === "patch" && resource === "virtualmachinebackups/status",
      ).length;
    await expect.poll(said, { timeout: 400_000, interval: 2000 }).toBe(0);
  }

  async function processSeconds(): Promise<number> {
    return valueOf(await scrape(), "thinstream_process_cpu_seconds_total") ?? Number.NaN;
  }

  /** Gives all policies the next full minute that leaves them time to hear of it. */
  async function scheduleAll(): Promise<Date> {
    const due = new Date(Math.ceil((Date.now() + 20_000) / 60_000) * 60_000);
    const schedule = `${due.getUTCMinutes()} ${due.getUTCHours()} * * *`;
    const names: string[] = [];
    for await (const { items } of client.list(policies)) names.push(...items.map(({ metadata }) => metadata.name));
    await mapConcurrently(names, 8, async (name) => await client.patch(policies, { name }, { spec: { schedule } }));
    await settled();
    expect(Date.now(), "they heard of it in time").toBeLessThan(due.getTime());
    return due;
  }
});

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function told({ now, peak }: { readonly now: number; readonly peak: number }): string {
  return `${now} MiB resident, at most ${peak}`;
}

function tally(all: readonly AuditedRequest[]): string {
  const kinds = Object.groupBy(all, ({ verb, resource, code }) => `${verb} ${resource} ${code}`);
  return Object.entries(kinds)
    .map(([what, some]) => `${some?.length} ${what}`)
    .join(", ");
}
