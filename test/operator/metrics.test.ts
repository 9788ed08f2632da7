import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { Vm } from "../acceptance/vm.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { applyKubeVirt, ControlPlane, isWrite } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { type Family, parseMetrics, valueOf } from "../support/prometheus.ts";
import { applyCrds, conditionWhen, NAMESPACE, Operator, repositoryObjects, type Seen } from "./operator.ts";

const IDLE_MS = 30_000;

describe.skipIf(skipWithout("cluster", "host", "s3"))("health and metrics of a controller on a real API server", () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let world: World;
  let repo: Repo;
  let leader: Operator;
  let standby: Operator;
  let vm: Vm;

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("metrics");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    await plane.admin.kubectl(["create", "namespace", NAMESPACE]);
    await applyCrds(plane.admin);
    await applyKubeVirt(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a"] });
    await plane.admin.apply([...repositoryObjects("main", repo), ...objects]);
    leader = new Operator(plane);
    await leader.start();
    standby = new Operator(plane);
    await standby.start(plane.admin, "ready");
  });
  afterAll(async () => {
    await standby?.stop();
    await leader?.stop();
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  const scrape = async (operator: Operator): Promise<ReadonlyMap<string, Family>> => parseMetrics((await operator.ask("/metrics")).text);

  /** Applies a run, and waits for its end. */
  async function backUp(name: string, domain: string): Promise<Seen> {
    const source = { libvirt: { nodeName: "node-a", uri: world.lab.uri, domain } };
    const spec = { source, repositoryRef: { name: "main" }, scratch: { directory: world.lab.dir }, backoffLimit: 0 };
    await plane.admin.apply([
      { apiVersion: "thinstream.dev/v1alpha1", kind: "VirtualMachineBackup", metadata: { name, namespace: NAMESPACE }, spec },
    ]);
    const run = { kind: "tvmb", name, namespace: NAMESPACE, type: "Succeeded" };
    return await conditionWhen(plane.admin, run, ({ status }) => status === "True" || status === "False");
  }

  test("a backup is counted, and its point tells how old the machine's protection is", async () => {
    expect(await leader.ask("/readyz")).toEqual({ status: 200, text: "ok\n" });
    await conditionWhen(plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
    vm = await Vm.start(world, { vda: { size: "64M" } });
    await vm.write("vda", "write -P 1 0 1M");
    expect(await backUp("one", vm.name), leader.log.slice(-3000)).toMatchObject({ status: "True" });
    const families = await scrape(leader);
    expect(valueOf(families, "thinstream_leader")).toBe(1);
    expect(valueOf(families, "thinstream_backup_runs_total", { result: "succeeded", level: "Full" })).toBe(1);
    expect(valueOf(families, "thinstream_backup_bytes_total", { kind: "read" })).toBeGreaterThanOrEqual(1024 * 1024);
    expect(valueOf(families, "thinstream_backup_bytes_total", { kind: "uploaded" })).toBeGreaterThan(0);
    expect(valueOf(families, "thinstream_s3_requests_total", { class: "put" })).toBeGreaterThanOrEqual(3);
    expect(valueOf(families, "thinstream_s3_requests_total", { class: "list" })).toBeGreaterThan(0);
    expect(valueOf(families, "thinstream_s3_requests_total", { class: "delete" })).toBe(0);
    expect(valueOf(families, "thinstream_backup_runs_by_state", { state: "succeeded" })).toBe(1);
    const newest = valueOf(families, "thinstream_backup_last_successful_timestamp_seconds", { namespace: "", vm: vm.name }) ?? 0;
    expect(Math.abs(newest - Date.now() / 1000)).toBeLessThan(120);
    expect(valueOf(families, "thinstream_repository_ready", { repository: "main" })).toBe(1);
    expect(valueOf(families, "thinstream_repository_last_sync_timestamp_seconds", { repository: "main" })).toBeGreaterThan(1e9);
    expect(valueOf(families, "thinstream_workqueue_done_total", { queue: "VirtualMachineBackup" })).toBeGreaterThan(0);
    expect(valueOf(families, "thinstream_kube_requests_total", { verb: "POST", code: "201" })).toBeGreaterThan(0);
  });

  test("an incremental is told apart from one whose bitmap was lost, and a failure has its reason", async () => {
    await vm.write("vda", "write -P 2 1M 64k");
    expect(await backUp("two", vm.name)).toMatchObject({ status: "True" });
    const second = await scrape(leader);
    expect(valueOf(second, "thinstream_backup_runs_total", { result: "succeeded", level: "Incremental" })).toBe(1);
    expect(valueOf(second, "thinstream_backup_lost_bitmap_total")).toBe(0);
    for (const checkpoint of await vm.checkpoints()) await world.lab.virsh("checkpoint-delete", vm.name, checkpoint);
    expect(await backUp("three", vm.name)).toMatchObject({ status: "True" });
    expect(await backUp("four", "nobody-has-this")).toMatchObject({ status: "False" });
    const families = await scrape(leader);
    expect(valueOf(families, "thinstream_backup_runs_total", { result: "succeeded", level: "Full" })).toBe(2);
    expect(valueOf(families, "thinstream_backup_lost_bitmap_total")).toBe(1);
    expect(valueOf(families, "thinstream_backup_runs_total", { result: "failed", level: "Unknown" })).toBe(1);
    expect(valueOf(families, "thinstream_backup_attempt_failures_total", { reason: "DomainNotFound" })).toBe(1);
    const counts = families.get("thinstream_backup_duration_seconds")?.samples.filter(({ name }) => name.endsWith("_count")) ?? [];
    expect(counts.reduce((sum, { value }) => sum + value, 0)).toBe(3);
  });

  test("a machine is told of while a policy selects it, and not after it is gone", async () => {
    const at = { namespace: "default", vm: "web" };
    const rpo = async (): Promise<number | undefined> =>
      valueOf(await scrape(leader), "thinstream_vm_rpo_breached", { policy: "all", ...at });
    await expect.poll(rpo, { timeout: 20_000 }).toBe(0);
    expect(valueOf(await scrape(leader), "thinstream_backup_last_successful_timestamp_seconds", at)).toBe(0);
    expect(valueOf(await scrape(leader), "thinstream_policy_matched_vms", { policy: "all" })).toBe(1);
    expect(valueOf(await scrape(leader), "thinstream_policy_protected_vms", { policy: "all" })).toBe(0);
    await plane.admin.kubectl(["delete", "virtualmachines.kubevirt.io", "web"]);
    await expect.poll(rpo, { timeout: 20_000 }).toBe(undefined);
    expect(valueOf(await scrape(leader), "thinstream_backup_last_successful_timestamp_seconds", at)).toBe(undefined);
  });

  test("one that waits to lead is ready, and tells of itself alone", async () => {
    expect((await standby.ask("/healthz")).status).toBe(200);
    const families = await scrape(standby);
    expect(valueOf(families, "thinstream_leader")).toBe(0);
    expect(families.get("thinstream_repository_ready")?.samples).toEqual([]);
    expect(families.get("thinstream_workqueue_depth")?.samples).toEqual([]);
    expect(valueOf(families, "thinstream_kube_requests_total", { verb: "GET", code: "200" })).toBeGreaterThan(0);
  });

  test("with nothing to do, fewer than one write a second", async () => {
    // What the last test left to be written.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const from = new Date();
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const writes = plane.requests().filter((one) => one.user === "admin" && isWrite(one) && one.at >= from);
    const told = Object.entries(Object.groupBy(writes, ({ verb, resource }) => `${verb} ${resource}`)).map(
      ([what, all]) => `${all?.length} ${what}`,
    );
    console.info(`idle: ${writes.length} writes in ${IDLE_MS / 1000} s (${told.join(", ")})`);
    expect(writes.length, told.join(", ")).toBeLessThanOrEqual(IDLE_MS / 1000);
    expect(writes.length, "the lease is renewed").toBeGreaterThan(0);
  });

  test("a leader that ends gives way, and the one that follows tells the same of the cluster", async () => {
    const names = [
      "thinstream_backup_last_successful_timestamp_seconds",
      "thinstream_backup_runs_by_state",
      "thinstream_repository_points",
    ];
    const told = async (operator: Operator): Promise<unknown> => {
      const families = await scrape(operator);
      return names.map((name) => families.get(name)?.samples);
    };
    const before = await told(leader);
    await leader.stop();
    await expect(leader.ask("/healthz")).rejects.toThrow("fetch failed");
    await expect.poll(async () => valueOf(await scrape(standby), "thinstream_leader"), { timeout: 40_000 }).toBe(1);
    expect(await told(standby)).toEqual(before);
  });
});

const objects = [
  {
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "BackupPolicy",
    metadata: { name: "all" },
    spec: { repositoryRef: { name: "main" }, selector: {}, rpo: "24h" },
  },
  {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name: "web", namespace: "default" },
    spec: { runStrategy: "Halted", template: { spec: {} } },
  },
];
