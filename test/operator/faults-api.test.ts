import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import { ApiError } from "../node/index.ts";
import { NAMESPACE } from "./operator.ts";
import { Scene } from "./scene.ts";

const GRANULE = 65_536;
const OUTAGE_MS = 60_000;
const API = "/apis/thinstream.dev/v1alpha1";

describe.skipIf(skipWithout("cluster", "host", "s3"))("in the middle of a backup an API server", { timeout: 600_000 }, () => {
  let scene: Scene;
  let vm: Vm;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "api" });
    vm = await scene.machine();
  });
  afterAll(async () => await scene?.stop());

  /** The run went well at its first attempt, made one point that is what the disks were, and the next does too. */
  async function expectUnharmed(name: string, written: number, meanwhile: () => Promise<void>): Promise<void> {
    const before = (await scene.world.points(scene.repo)).length;
    await vm.write("vda", `write -P ${written} ${written}M 64k`);
    const references = await vm.references();
    const pause = scene.pauseAt("opened");
    await scene.plane.admin.apply([scene.domainRun(name, vm)]);
    await pause.reached();
    pause.end();
    await meanwhile();
    const run = await scene.finished(name);
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ attempts: 1, level: "Incremental", disks: [{ dirtyBytes: GRANULE }] });
    expect(await scene.world.points(scene.repo)).toHaveLength(before + 1);
    await scene.expectRestores(run, references);
    await scene.expectEvent("VirtualMachineBackup", name, { reason: "BackupSucceeded" });
    await scene.expectNextIsRight(vm);
  }

  test("that is away for a minute costs nothing: the agent ends meanwhile, and a controller that starts anew hears of it", async () => {
    await expectUnharmed("minute", 10, async () => {
      await scene.plane.stopApiServer();
      await sleep(OUTAGE_MS);
      await scene.plane.startApiServer();
    });
  });

  test("that has forgotten the past (410) is asked for all of it anew", async () => {
    await expectUnharmed("expired", 20, async () => await scene.plane.forgetHistory());
  });

  test("where others write to the same objects all the time costs nothing", async () => {
    const over = new AbortController();
    const run = `${API}/namespaces/${NAMESPACE}/virtualmachinebackups/stormy`;
    const targets = [run, `${run}/status`, `${API}/backuprepositories/main`];
    const writers = targets.map(async (path) => await writeUntil(path, over.signal));
    try {
      await expectUnharmed("stormy", 30, async () => undefined);
    } finally {
      over.abort();
    }
    const written = await Promise.all(writers);
    for (const count of written) expect(count).toBeGreaterThan(50);
    const refused = scene.plane
      .requests()
      .filter(
        ({ code, user, resource, name }) =>
          code === 409 && user === "admin" && resource === "virtualmachinebackups/status" && name === "stormy",
      );
    expect(refused.length, "the controller met others").toBeGreaterThan(0);
  });

  /** Changes an object as fast as the server lets it, from when it is there. @returns how often */
  async function writeUntil(path: string, signal: AbortSignal): Promise<number> {
    for (let count = 0; ;) {
      if (signal.aborted) return count;
      const told = String(count);
      const patch = path.endsWith("/status") ? { status: { checkpoint: told } } : { metadata: { annotations: { storm: told } } };
      try {
        await scene.nodes.api.patch(path, patch);
        count += 1;
      } catch (cause) {
        if (!(cause instanceof ApiError)) throw cause;
        await sleep(20);
      }
    }
  }
});
