import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import { KillingProxy } from "./killing-proxy.ts";
import { Scene } from "./scene.ts";

const HOUR = 3_600_000;

describe.skipIf(skipWithout("cluster", "host", "s3"))("a backup under way when its policy's window closes", { timeout: 300_000 }, () => {
  let scene: Scene;
  let vm: Vm;
  let proxy: KillingProxy;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "overrun" });
    vm = await scene.machine();
    proxy = await KillingProxy.start(scene.plane);
    await scene.operator.stop();
    await scene.operator.start(proxy.identity);
  });
  afterAll(async () => {
    await scene?.stop();
    await proxy?.stop();
  });

  /** The policy's window: open from an hour ago, or from one that comes, for two hours. */
  async function window(state: "open" | "closed"): Promise<void> {
    const clock = (hours: number): string => new Date(Date.now() + hours * HOUR).toISOString().slice(11, 16);
    const from = state === "open" ? -1 : 3;
    const spec = {
      namespaces: { selector: { matchLabels: { backup: "none" } } },
      repositoryRef: { name: "main" },
      retention: { keepLast: 9 },
      window: { start: clock(from), end: clock(from + 2), onOverrun: "Cancel" },
    };
    await scene.plane.admin.apply([{ apiVersion: "thinstream.dev/v1alpha1", kind: "BackupPolicy", metadata: { name: "nightly" }, spec }]);
  }

  /** A run as the policy's schedule makes it, when its job goes on in libvirt. No attempt is to follow a failed one. */
  async function underWay(name: string): Promise<void> {
    await window("open");
    await vm.write("vda", "write -P 2 8M 64k");
    const pause = scene.pauseAt("opened");
    const run = scene.domainRun(name, vm, { policyRef: { name: "nightly" }, backoffLimit: 0 }) as { readonly metadata: object };
    const annotations = { "thinstream.dev/scheduled-at": "2026-11-21T02:00:00Z" };
    await scene.plane.admin.apply([{ ...run, metadata: { ...run.metadata, annotations } }]);
    await pause.reached();
  }

  async function expectCancelled(name: string): Promise<void> {
    const run = await scene.finished(name);
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({
      status: "False",
      reason: "WindowClosed",
      message: "the backup window of its policy closed before it was done",
    });
    expect(run.status).toMatchObject({ attempts: 1 });
    await scene.expectEvent("VirtualMachineBackup", name, { reason: "BackupFailed" });
    await scene.expectNothingLeft();
    expect(await vm.isActive()).toBe(true);
    // The checkpoint of the last point alone is left, and no job.
    await vm.expectTidy();
    expect(await scene.world.points(scene.repo)).toHaveLength(1);
  }

  test("ends for that reason, also where no attempt may fail, and leaves nothing", async () => {
    await underWay("cancelled");
    await window("closed");
    await expectCancelled("cancelled");
  });

  test("ends so too by a controller that finds the agent gone and the window open again, and the next is right", async () => {
    await underWay("found");
    const killed = new Promise<void>((resolve) => {
      let isKilled = false;
      proxy.onWrite = ({ what, text }) => {
        if (!isKilled && what === "DELETE pods" && text.includes("ts-backup-")) {
          isKilled = true;
          void scene.operator.stop("SIGKILL").then(resolve);
        }
        return isKilled;
      };
    });
    await window("closed");
    await killed;
    proxy.onWrite = () => false;
    await window("open");
    await scene.operator.start(proxy.identity);
    await expectCancelled("found");
    await scene.expectRight("next", vm, 65_536);
  });
});
