import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { VirtualMachineBackup } from "../../src/api/index.ts";
import { conditionOf } from "../../src/controller/said.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { ControlPlane } from "../cluster/index.ts";
import { compareRaw, skipWithout } from "../lab/index.ts";
import { KubeVirt, vmObjects } from "../kubevirt/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { applyCrds, conditionWhen, NAMESPACE, Operator, repositoryObjects } from "./operator.ts";

const GRANULE = 65_536;

describe.skipIf(skipWithout("cluster", "trixie", "guest", "host", "s3"))("a running KubeVirt machine, by the operator", () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let kubevirt: KubeVirt;
  let world: World;
  let repo: Repo;
  let operator: Operator;

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("kubevirt");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    await plane.admin.kubectl(["create", "namespace", NAMESPACE]);
    await applyCrds(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a", "node-b"] });
    kubevirt = await KubeVirt.start(plane, nodes);
    await plane.admin.apply(repositoryObjects("main", repo));
    operator = new Operator(plane);
    await operator.start();
    await conditionWhen(plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, ({ status }) => status === "True");
  });
  afterAll(async () => {
    await operator?.stop();
    await kubevirt?.stop();
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  async function apply(name: string, vm: string, more: object = {}): Promise<void> {
    const spec = { source: { virtualMachine: { name: vm } }, repositoryRef: { name: "main" }, ...more };
    await plane.admin.apply([
      { apiVersion: "thinstream.dev/v1alpha1", kind: "VirtualMachineBackup", metadata: { name, namespace: "default" }, spec },
    ]);
  }

  async function finished(name: string): Promise<VirtualMachineBackup> {
    const isOver = ({ status }: { readonly status: string }): boolean => status === "True" || status === "False";
    await conditionWhen(plane.admin, { kind: "tvmb", name, namespace: "default", type: "Succeeded" }, isOver);
    return await plane.admin.get<VirtualMachineBackup>("tvmb", name, "-n", "default");
  }

  async function taken(name: string, vm: string, more: object = {}): Promise<VirtualMachineBackup> {
    await apply(name, vm, more);
    const run = await finished(name);
    expect(conditionOf(run, "Succeeded"), operator.log.slice(-3000)).toMatchObject({ status: "True" });
    return run;
  }

  /** What the repository gives back of a run's disk, beside what the disk was. */
  async function expectRestores({ status }: VirtualMachineBackup, disk: string, reference: string): Promise<void> {
    const output = world.output();
    await world.json("restore", ["--point", status?.pointId ?? "", "--disk", disk, "--output", output], repo);
    expect(await compareRaw(join(output, `${disk}.raw`), reference)).toBeUndefined();
  }

  test("with tracked blocks: a full, an incremental, one after its pod was replaced, and each restores as it was", async () => {
    await plane.admin.apply(vmObjects({ name: "web", tracksBlocks: true, volumes: [{ name: "root" }, { name: "data", mode: "Block" }] }));
    const machine = await kubevirt.machine("web");
    await machine.write("root", "write -P 1 0 1M");
    const before = await machine.snapshot("root");
    const full = await taken("web-1", "web");
    expect(full.status).toMatchObject({ engine: "LibvirtPull", level: "Full", consistency: "Crash", nodeName: machine.node });
    expect(full.status?.disks?.map(({ reason }) => reason)).toEqual(Array.from({ length: 2 }, () => expect.stringContaining("no earlier")));
    await machine.write("root", "write -P 2 1M 64k");
    await machine.write("data", "write -P 3 2M 128k");
    const incremental = await taken("web-2", "web");
    expect(incremental.status).toMatchObject({ level: "Incremental" });
    expect(incremental.status?.disks?.map(({ name, dirtyBytes }) => [name, dirtyBytes])).toEqual([
      ["data", 2 * GRANULE],
      ["root", GRANULE],
    ]);
    const between = await machine.snapshot("root");
    const again = await kubevirt.restart("web");
    await again.write("root", "write -P 4 3M 64k");
    // Nobody saw who had its volumes while it was down: everything is read, and only what changed is stored.
    const third = await taken("web-3", "web");
    const thirdRoot = third.status?.disks?.find(({ name }) => name === "root");
    expect(thirdRoot).toMatchObject({ level: "Full", reason: expect.stringMatching(/^the machine was off since the last restore point/) });
    expect(thirdRoot?.uploadedBytes).toBeLessThan(GRANULE);
    const after = await again.snapshot("root");
    await again.write("root", "write -P 5 4M 64k");
    expect((await taken("web-4", "web")).status).toMatchObject({ level: "Incremental" });
    await expectRestores(full, "root", before);
    await expectRestores(incremental, "root", between);
    await expectRestores(third, "root", after);
  });

  test("is backed up without the disks that it has anew at every start, or that the run leaves out", async () => {
    await plane.admin.apply(vmObjects({ name: "partly", volumes: [{ name: "root" }, { name: "swap" }] }));
    const machine = await kubevirt.machine("partly");
    // As KubeVirt has its cloud-init disks: of no volume that has a claim.
    const iso = "/var/run/kubevirt-ephemeral-disks/init.iso";
    await machine.launcher.exec("qemu-img", "create", "-q", "-f", "raw", iso, "1M");
    await machine.launcher.virsh("attach-disk", "default_partly", iso, "vdz", "--targetbus", "virtio", "--subdriver", "raw");
    const run = await taken("partly-1", "partly", { disks: { exclude: ["swap", "nosuch"] } });
    expect(run.status?.disks?.map(({ name }) => name)).toEqual(["root"]);
    expect(run.status?.warnings).toEqual(["there is no disk nosuch to leave out"]);
    expect(conditionOf(run, "Succeeded")).toMatchObject({ reason: "CompletedWithWarnings" });
    await kubevirt.setRunStrategy("partly", "Halted");
  });

  test("its guest is frozen by KubeVirt at the instant, and thawed", async () => {
    await plane.admin.apply(vmObjects({ name: "guest", guest: true, tracksBlocks: true, volumes: [{ name: "root", size: "256Mi" }] }));
    const machine = await kubevirt.machine("guest");
    const run = await taken("guest-1", "guest", { consistency: { mode: "Required" } });
    expect(run.status).toMatchObject({ consistency: "Filesystem" });
    const state = await machine.launcher.virsh("qemu-agent-command", "default_guest", '{"execute":"guest-fsfreeze-status"}');
    expect(state).toContain("thawed");
    await kubevirt.setRunStrategy("guest", "Halted");
  });

  test("waits while the machine migrates, and is backed up on its new node", async () => {
    await plane.admin.apply(vmObjects({ name: "moved", node: "node-a", volumes: [{ name: "root", qcow2: true }] }));
    const machine = await kubevirt.machine("moved");
    await machine.write("root", "write -P 5 1M 64k");
    const migration = await kubevirt.migrate("moved", "node-b");
    await apply("moved-1", "moved");
    const waiting = await conditionWhen(
      plane.admin,
      { kind: "tvmb", name: "moved-1", namespace: "default", type: "Succeeded" },
      ({ reason }) => reason === "WaitingForMigration",
    );
    expect(waiting).toMatchObject({ status: "Unknown", reason: "WaitingForMigration" });
    await migration.complete();
    const run = await finished("moved-1");
    expect(conditionOf(run, "Succeeded"), operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ nodeName: "node-b" });
  });
});
