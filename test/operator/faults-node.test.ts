import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import { configuration } from "./operator.ts";
import { Scene } from "./scene.ts";

/** As somebody sets it who wants to hear of a dead node soon; by default Kubernetes waits five minutes. */
const tolerations = ["unreachable", "not-ready"].map((taint) => ({
  key: `node.kubernetes.io/${taint}`,
  operator: "Exists" as const,
  effect: "NoExecute",
  tolerationSeconds: 1,
}));

describe.skipIf(skipWithout("cluster", "host", "s3"))("a node that is gone in the middle of a backup", { timeout: 600_000 }, () => {
  let scene: Scene;
  let vm: Vm;

  beforeAll(async () => {
    scene = await Scene.start({
      prefix: "node",
      nodes: ["node-a", "node-b"],
      settings: { agent: { ...configuration.agent, tolerations } },
    });
    vm = await scene.machine();
  });
  afterAll(async () => await scene?.stop());

  test("is noticed though nobody can take its pod away; the run goes on when the node is back, with one point", async () => {
    const before = (await scene.world.points(scene.repo)).length;
    await vm.write("vda", "write -P 2 8M 64k");
    const references = await vm.references();
    const pause = scene.pauseAt("opened");
    await scene.plane.admin.apply([scene.domainRun("cut-off", vm)]);
    const lost = await scene.agentOf("cut-off");
    await pause.reached();
    await scene.nodes.nodeGone("node-a");
    const waiting = await scene.says("cut-off", "BackingOff", 300_000);
    expect(waiting.message).toMatch(
      /^attempt 1 failed \(NodeLost\): node node-a does not answer: the agent ts-backup-\S+ was to be gone at /,
    );
    await scene.expectEvent("VirtualMachineBackup", "cut-off", { reason: "NodeLost" });
    // There is another node, but the domain is not on it.
    await scene.nodes.addNode("node-a");
    const run = await scene.finished("cut-off", 240_000);
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ nodeName: "node-a", attempts: 2, lastFailure: { nodeName: "node-a" } });
    expect(await scene.world.points(scene.repo)).toHaveLength(before + 1);
    await scene.expectRestores(run, references);
    // Its kubelet finds the pod that was to go when it comes back; whatever the test has for one may not.
    await scene.plane.admin.kubectl([
      "delete",
      "pod",
      lost.metadata.name,
      "-n",
      lost.metadata.namespace ?? "",
      "--force",
      "--ignore-not-found",
    ]);
    await scene.expectNextIsRight(vm);
  });
});
