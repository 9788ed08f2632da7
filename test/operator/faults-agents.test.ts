import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import type { NodeSimulator, Pod } from "../node/index.ts";
import { NAMESPACE } from "./operator.ts";
import { Scene } from "./scene.ts";

/** What becomes of an agent, at which step, and what its run is to say of it. */
interface Fault {
  readonly step: string;
  readonly happens: (nodes: NodeSimulator, pod: Pod) => void;
  readonly reason: string;
  readonly says: RegExp;
}

describe.skipIf(skipWithout("cluster", "host", "s3"))("a backup whose agent is lost", () => {
  let scene: Scene;
  let vm: Vm;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "agents" });
    vm = await scene.machine();
  });
  afterAll(async () => await scene?.stop());

  test.each<[string, Fault]>([
    [
      "evicted while its job goes on in libvirt",
      { step: "opened", happens: (nodes, pod) => nodes.evict(pod), reason: "Evicted", says: /node was low on resource/ },
    ],
    [
      "killed for its memory when the disks are stored",
      {
        step: "packs-stored",
        happens: (nodes, pod) => nodes.oomKill(pod),
        reason: "OutOfMemory",
        says: /^it took more memory than it may have: raise the agent's memory limit \(exit code 137\)$/,
      },
    ],
    [
      "evicted when its point is committed and its job not ended",
      { step: "committed", happens: (nodes, pod) => nodes.evict(pod), reason: "Evicted", says: /node was low on resource/ },
    ],
  ])("%s says so, and the next attempt ends well, with one point", async (title, { step, happens, reason, says }) => {
    const name = title.replaceAll(" ", "-");
    const before = (await scene.world.points(scene.repo)).length;
    await vm.write("vda", `write -P ${10 + before} 8M 64k`);
    const references = await vm.references();
    const pause = scene.pauseAt(step);
    await scene.plane.admin.apply([scene.domainRun(name, vm)]);
    const agent = await scene.agentOf(name);
    await pause.reached();
    happens(scene.nodes, agent);
    const waiting = await scene.says(name, "BackingOff");
    expect(waiting).toMatchObject({ status: "Unknown", message: expect.stringMatching(`attempt 1 failed \\(${reason}\\)`) });
    expect(waiting.message).toMatch(/the next follows in 10 s$/);
    const run = await scene.finished(name);
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ attempts: 2, level: "Incremental", lastFailure: { message: expect.stringMatching(says) } });
    for (const event of [reason, "BackupSucceeded"]) await scene.expectEvent("VirtualMachineBackup", name, { reason: event });
    expect(await scene.world.points(scene.repo)).toHaveLength(before + 1);
    await scene.expectRestores(run, references);
    await vm.expectTidy();
    await scene.expectNextIsRight(vm);
  });

  test("deleted by somebody undoes its job first, and another takes its place", async () => {
    await vm.write("vda", "write -P 40 40M 64k");
    const references = await vm.references();
    const pause = scene.pauseAt("opened");
    await scene.plane.admin.apply([scene.domainRun("deleted", vm)]);
    const agent = await scene.agentOf("deleted");
    await pause.reached();
    await scene.plane.admin.kubectl(["delete", "pod", agent.metadata.name, "-n", NAMESPACE, "--wait=true"]);
    await vm.expectTidy();
    const run = await scene.finished("deleted");
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ attempts: 2, level: "Incremental" });
    await scene.expectRestores(run, references);
    await scene.expectNextIsRight(vm);
  });

  test("evicted in every attempt fails, says how often, and changes nothing", async () => {
    const before = (await scene.world.points(scene.repo)).length;
    const pause = scene.pauseAt("opened");
    await scene.plane.admin.apply([scene.domainRun("hopeless", vm, { backoffLimit: 0 })]);
    const agent = await scene.agentOf("hopeless");
    await pause.reached();
    scene.nodes.evict(agent);
    const failed = conditionOf(await scene.finished("hopeless"), "Succeeded");
    expect(failed).toMatchObject({ status: "False", reason: "BackoffLimitExceeded" });
    expect(failed?.message).toMatch(/^1 attempt failed, the last with Evicted: The node was low on resource/);
    await scene.expectEvent("VirtualMachineBackup", "hopeless", { reason: "BackupFailed" });
    expect(await scene.world.points(scene.repo)).toHaveLength(before);
    await scene.expectNothingLeft();
    // What it left in libvirt, the next run takes away.
    await scene.expectNextIsRight(vm);
  });
});
