import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import { configuration, NAMESPACE } from "./operator.ts";
import { Scene } from "./scene.ts";

describe.skipIf(skipWithout("cluster", "host", "s3"))("a backup whose agent cannot start", () => {
  let scene: Scene;
  let vm: Vm;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "start" });
    vm = await scene.machine();
  });
  afterAll(async () => await scene?.stop());

  test("never started, for its image is missing, says so at once, and at its deadline what it waited for", async () => {
    scene.nodes.image(configuration.image, undefined);
    await scene.plane.admin.apply([scene.domainRun("imageless", vm, { deadline: "1m" })]);
    await scene.expectEvent("VirtualMachineBackup", "imageless", { reason: "ImageUnavailable" });
    const starting = conditionOf(await scene.get("imageless"), "Succeeded");
    expect(starting).toMatchObject({ status: "Unknown", reason: "AgentStarting" });
    expect(starting?.message).toMatch(/does not start: .*not found.*: check the image and the imagePullSecrets/);
    const over = conditionOf(await scene.finished("imageless"), "Succeeded");
    expect(over).toMatchObject({ status: "False", reason: "DeadlineExceeded" });
    expect(over?.message).toMatch(/^it was not done within 1m; at last: the agent .* does not start: .*check the image/);
    await scene.expectEvent("VirtualMachineBackup", "imageless", { reason: "BackupFailed" });
    await scene.expectNothingLeft();
    scene.resetImage();
    await scene.expectNextIsRight(vm);
  });

  test("refused by a quota says which, leaves nothing, and begins when there is room", async () => {
    const quota = {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "tight", namespace: NAMESPACE },
      spec: { hard: { pods: "0" } },
    };
    await scene.plane.admin.apply([quota]);
    const counted = "{.status.hard.pods}";
    await expect
      .poll(async () => await scene.plane.admin.kubectl(["get", "quota", "tight", "-n", NAMESPACE, "-o", `jsonpath=${counted}`]), {
        timeout: 30_000,
      })
      .toBe("0");
    const references = await vm.references();
    await scene.plane.admin.apply([scene.domainRun("crowded", vm)]);
    const refused = await scene.says("crowded", "RefusedByCluster");
    expect(refused).toMatchObject({ status: "Unknown", message: expect.stringMatching(/exceeded quota: tight.*change the quota/) });
    expect(conditionOf(await scene.get("crowded"), "Stalled")).toMatchObject({ status: "True", reason: "RefusedByCluster" });
    await scene.expectEvent("VirtualMachineBackup", "crowded", { reason: "RefusedByCluster" });
    await scene.expectNothingLeft();
    await scene.plane.admin.kubectl(["delete", "quota", "tight", "-n", NAMESPACE]);
    // It looks again within a minute.
    const run = await scene.finished("crowded");
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ attempts: 1 });
    await scene.expectRestores(run, references);
    await scene.expectNextIsRight(vm);
  });
});
