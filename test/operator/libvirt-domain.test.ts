import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { RestorePoint, VirtualMachineBackup } from "../../src/api/index.ts";
import { Vm } from "../acceptance/vm.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { thinstreamJson } from "../support/thinstream.ts";
import { applyCrds, conditionWhen, NAMESPACE, Operator, repositoryObjects } from "./operator.ts";

const GRANULE = 65_536;

describe.skipIf(skipWithout("cluster", "host", "s3"))("a libvirt domain of a node, by the operator", () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let world: World;
  let repo: Repo;
  let operator: Operator;
  let vm: Vm;

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("operator");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    await plane.admin.kubectl(["create", "namespace", NAMESPACE]);
    await applyCrds(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a"] });
    await plane.admin.apply([...repositoryObjects("main", repo)]);
    operator = new Operator(plane);
    await operator.start();
    vm = await Vm.start(world, { vda: { size: "64M" } });
  });
  afterAll(async () => {
    await operator?.stop();
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  const run = (name: string): object => ({
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "VirtualMachineBackup",
    metadata: { name, namespace: NAMESPACE },
    spec: {
      source: { libvirt: { nodeName: "node-a", uri: vm.world.lab.uri, domain: vm.name } },
      repositoryRef: { name: "main" },
      // The lab's own directory, which holds its socket and images.
      scratch: { directory: vm.world.lab.dir },
    },
  });

  async function finished(name: string): Promise<VirtualMachineBackup> {
    await conditionWhen(
      plane.admin,
      { kind: "tvmb", name, namespace: NAMESPACE, type: "Succeeded" },
      ({ status }) => status !== "Unknown" && status !== "",
    );
    return await plane.admin.get<VirtualMachineBackup>("tvmb", name, "-n", NAMESPACE);
  }

  test("its repository is looked at and ready", async () => {
    const ready = await conditionWhen(plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
    expect(ready, operator.log.slice(-3000)).toMatchObject({ status: "True", reason: "Available" });
  });

  test("a full and an incremental, each a restore point of the catalog, and nothing left behind", async () => {
    await vm.write("vda", "write -P 1 0 1M");
    await plane.admin.apply([run("first")]);
    const first = await finished("first");
    expect(first.status, operator.log.slice(-3000)).toMatchObject({ level: "Full", attempts: 1, engine: "LibvirtPull" });
    await vm.write("vda", "write -P 2 1M 64k");
    await plane.admin.apply([run("second")]);
    const second = await finished("second");
    expect(second.status?.level).toBe("Incremental");
    expect(second.status?.disks?.[0]?.dirtyBytes).toBe(GRANULE);
    const points = (await plane.admin.kubectl(["get", "rp", "-A", "-o", "name"])).trim().split("\n");
    expect(points).toHaveLength(2);
    expect((await world.points(repo)).map(({ id }) => id)).toEqual([first.status?.pointId, second.status?.pointId]);
    await expect
      .poll(
        async () => (await plane.admin.kubectl(["get", "pods,secrets", "-n", NAMESPACE, "-l", "thinstream.dev/run", "-o", "name"])).trim(),
        { timeout: 20_000 },
      )
      .toBe("");
  });

  test("deleting a RestorePoint forgets its point by policy alone, and another repository object shows the same catalog", async () => {
    const listed = async (): Promise<readonly string[]> => (await world.points(repo)).map(({ id }) => id);
    const [kept = "", forgotten = ""] = (await plane.admin.kubectl(["get", "rp", "-n", NAMESPACE, "-o", "name"])).trim().split("\n");
    const { spec } = await plane.admin.get<RestorePoint>(forgotten, "-n", NAMESPACE);
    await plane.admin.kubectl(["patch", forgotten, "-n", NAMESPACE, "--type=merge", "-p", '{"spec":{"deletionPolicy":"Delete"}}']);
    await expect
      .poll(async () => (await plane.admin.get<RestorePoint>(forgotten, "-n", NAMESPACE)).metadata.finalizers, { timeout: 20_000 })
      .toEqual(["thinstream.dev/forget"]);
    await plane.admin.kubectl(["delete", forgotten, "-n", NAMESPACE, "--wait=true", "--timeout=60s"]);
    expect(await listed()).not.toContain(spec.pointId);
    expect(await listed()).toHaveLength(1);
    // Retain, which is the default, forgets nothing: it comes back with the next reading, and with the hold that the bucket has.
    await thinstreamJson(["point", "hold", (await listed())[0] ?? "", ...repo.flags], { env: repo.env });
    await plane.admin.kubectl(["delete", kept, "-n", NAMESPACE, "--wait=true", "--timeout=60s"]);
    await plane.admin.apply(repositoryObjects("again", repo));
    await conditionWhen(plane.admin, { kind: "bkrepo", name: "again", type: "Ready" }, ({ status }) => status === "True");
    const mirrored = await plane.admin.get<{ items: readonly RestorePoint[] }>("rp", "-n", NAMESPACE);
    expect(mirrored.items.map((point) => [point.spec.repositoryRef.name, point.spec.pointId, point.spec.hold])).toEqual([
      ["again", (await listed())[0], true],
    ]);
  });

  test("a run that is deleted is cancelled", async () => {
    const before = (await world.points(repo)).length;
    await vm.write("vda", "write -P 30 0 60M");
    await plane.admin.apply([run("cancelled")]);
    await expect.poll(async () => await agentPods(), { timeout: 20_000, interval: 50 }).not.toBe("");
    await plane.admin.kubectl(["delete", "tvmb", "cancelled", "-n", NAMESPACE]);
    await expect.poll(async () => await agentPods(), { timeout: 60_000 }).toBe("");
    await vm.expectTidy();
    // It may have been too late to cancel it; then its point is whole.
    expect((await world.points(repo)).length - before).toBeLessThanOrEqual(1);
  });

  async function agentPods(): Promise<string> {
    return (await plane.admin.kubectl(["get", "pods", "-n", NAMESPACE, "-l", "thinstream.dev/work=backup", "-o", "name"])).trim();
  }
});
