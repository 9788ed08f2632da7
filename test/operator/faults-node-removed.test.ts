import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import { Scene } from "./scene.ts";

describe.skipIf(skipWithout("cluster", "host", "s3"))(
  "a node that leaves the cluster in the middle of a backup",
  { timeout: 600_000 },
  () => {
    let scene: Scene;
    let vm: Vm;

    beforeAll(async () => {
      scene = await Scene.start({ prefix: "removed", nodes: ["node-a", "node-b"] });
      vm = await scene.machine();
    });
    afterAll(async () => await scene?.stop());

    test("stalls its run, which begins when there is such a node again", async () => {
      await vm.write("vda", "write -P 4 10M 64k");
      const pause = scene.pauseAt("opened");
      await scene.plane.admin.apply([scene.domainRun("removed", vm)]);
      await pause.reached();
      await scene.nodes.removeNode("node-a");
      const stalled = await scene.says("removed", "NodeNotFound", 300_000);
      expect(stalled.message).toMatch(/^there is no node node-a in the cluster: name the node that the domain \S+ is on$/);
      await scene.expectEvent("VirtualMachineBackup", "removed", { reason: "NodeNotFound" });
      await scene.expectNothingLeft();
      await scene.nodes.addNode("node-a");
      expect(conditionOf(await scene.finished("removed", 240_000), "Succeeded")).toMatchObject({ status: "True" });
      await scene.expectNextIsRight(vm);
    });
  },
);
