import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { VirtualMachineBackup } from "../../src/api/index.ts";
import { conditionOf } from "../../src/controller/said.ts";
import { KubeVirt, type Machine, vmObjects } from "../kubevirt/index.ts";
import { compareRaw, skipWithout } from "../lab/index.ts";
import { projectImage } from "../node/index.ts";
import { configuration, NAMESPACE } from "./operator.ts";
import { Scene } from "./scene.ts";

const GRANULE = 65_536;

describe.skipIf(skipWithout("cluster", "trixie", "guest", "host", "s3"))("an agent that is killed", { timeout: 400_000 }, () => {
  let scene: Scene;
  let kubevirt: KubeVirt;
  let machine: Machine;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "frozen" });
    kubevirt = await KubeVirt.start(scene.plane, scene.nodes);
    const volumes = [{ name: "root", size: "256Mi" }, { name: "data" }];
    await scene.plane.admin.apply(vmObjects({ name: "web", namespace: NAMESPACE, guest: true, tracksBlocks: true, volumes }));
    machine = await kubevirt.machine("web", NAMESPACE);
  });
  afterAll(async () => {
    await kubevirt?.stop();
    await scene?.stop();
  });

  /** Long enough that whoever thaws within the test is not KubeVirt, whose time is over then. */
  async function apply(name: string): Promise<void> {
    const consistency = { mode: "Required", freezeTimeout: "10m" };
    const spec = { source: { virtualMachine: { name: "web" } }, repositoryRef: { name: "main" }, consistency };
    await scene.plane.admin.apply([scene.run(name, spec, NAMESPACE)]);
  }

  async function guestSays(): Promise<string> {
    return await machine.launcher.virsh("qemu-agent-command", machine.launcher.name, '{"execute":"guest-fsfreeze-status"}');
  }

  /** A run that succeeded with a quiet file system, of a disk that nobody but the test writes to. */
  async function expectRight(name: string, level: string, reference: string): Promise<VirtualMachineBackup> {
    const run = await scene.finished(name, 240_000);
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ level, consistency: "Filesystem" });
    const output = scene.world.output();
    await scene.world.json("restore", ["--point", run.status?.pointId ?? "", "--disk", "data", "--output", output], scene.repo);
    expect(await compareRaw(`${output}/data.raw`, reference)).toBeUndefined();
    expect(await guestSays()).toContain("thawed");
    await scene.expectNothingLeft();
    return run;
  }

  test("while its guest is frozen leaves it to the controller to thaw it, and the next attempt and run are right", async () => {
    await machine.write("data", "write -P 1 0 1M");
    await apply("first");
    await expectRight("first", "Full", await machine.snapshot("data"));
    await machine.write("data", "write -P 2 1M 64k");
    const reference = await machine.snapshot("data");
    scene.nodes.image(configuration.image, { ...projectImage, env: { THINSTREAM_STEPS: "/tmp/steps", THINSTREAM_PAUSE_AT: "frozen" } });
    const before = kubevirt.freezer.calls.length;
    await apply("killed");
    const agent = await scene.agentOf("killed");
    await expect.poll(() => kubevirt.freezer.isFrozen(machine), { timeout: 120_000 }).toBe(true);
    expect(await guestSays()).toContain("frozen");
    scene.resetImage();
    scene.nodes.oomKill(agent);
    await expect.poll(() => kubevirt.freezer.isFrozen(machine), { timeout: 60_000 }).toBe(false);
    expect(await guestSays()).toContain("thawed");
    expect(kubevirt.freezer.calls.slice(before, before + 2)).toEqual([`freeze ${machine.name}`, `unfreeze ${machine.name}`]);
    const run = await expectRight("killed", "Incremental", reference);
    expect(run.status).toMatchObject({ attempts: 2 });
    await machine.write("data", "write -P 3 2M 64k");
    await apply("next");
    const next = await expectRight("next", "Incremental", await machine.snapshot("data"));
    expect(next.status?.disks?.find(({ name }) => name === "data")).toMatchObject({ level: "Incremental", dirtyBytes: GRANULE });
  });
});
