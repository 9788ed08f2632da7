import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import { KillingProxy, type Write } from "./killing-proxy.ts";
import { conditionWhen, NAMESPACE, repositoryObjects } from "./operator.ts";
import { Scene } from "./scene.ts";

const GRANULE = 65_536;
const STATUS = "PATCH virtualmachinebackups/status";
/** What a controller changes once for a run, in this order. Between them it writes the status, several times. */
const once = ["POST pods", "POST secrets", "POST restorepoints", "DELETE secrets", "DELETE pods"];
/** More than a run has. */
const MOST_WRITES = 12;

describe.skipIf(skipWithout("cluster", "host", "s3"))("a controller that is killed after its", { timeout: 600_000 }, () => {
  let scene: Scene;
  let vm: Vm;
  let proxy: KillingProxy;
  let runs = 0;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "steps" });
    vm = await scene.machine();
    proxy = await KillingProxy.start(scene.plane);
    await scene.operator.stop();
    await scene.operator.start(proxy.identity);
  });
  afterAll(async () => {
    await scene?.stop();
    await proxy?.stop();
  });

  /** Kills the controller once it has made this change for a run, the nth of its kind. */
  function killAfter(step: string, nth: number, run: string): Promise<void> {
    let made = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    proxy.onWrite = ({ what, text }: Write): boolean => {
      // A restore point names neither; no other run goes on.
      const isOfRun = what === "POST restorepoints" || text.includes(run) || text.includes("ts-backup-");
      if (what !== step || !isOfRun) return made >= nth;
      made += 1;
      if (made === nth) void scene.operator.stop("SIGKILL").then(resolve);
      return made >= nth;
    };
    return promise;
  }

  /** @returns false where the run has no such step, and went on undisturbed */
  async function survives(step: string, nth: number): Promise<boolean> {
    runs += 1;
    const name = `step-${runs}`;
    const before = (await scene.world.points(scene.repo)).length;
    await vm.write("vda", `write -P ${runs} ${10 + runs}M 64k`);
    const killed = killAfter(step, nth, name);
    await scene.plane.admin.apply([scene.domainRun(name, vm)]);
    const isKilled = await Promise.race([killed.then(() => true), scene.quietAfter(name).then(() => false)]);
    proxy.onWrite = () => false;
    if (isKilled) await scene.operator.start(proxy.identity);
    const run = await scene.finished(name);
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(run.status).toMatchObject({ attempts: 1, level: "Incremental", disks: [{ dirtyBytes: GRANULE }] });
    await scene.expectNothingLeft();
    expect(await scene.world.points(scene.repo)).toHaveLength(before + 1);
    return isKilled;
  }

  test.each(once)("%s of a backup neither loses nor repeats it, nor leaves anything", async (step) => {
    expect(await survives(step, 1)).toBe(true);
  });

  test.each(["POST pods", "POST secrets"])("%s of a backup that is deleted meanwhile leaves nothing of it", async (step) => {
    runs += 1;
    const name = `step-${runs}`;
    const killed = killAfter(step, 1, name);
    await scene.plane.admin.apply([scene.domainRun(name, vm)]);
    await killed;
    proxy.onWrite = () => false;
    // Made, and now nobody's.
    expect(await scene.agentObjects()).not.toEqual([]);
    await scene.plane.admin.kubectl(["delete", "tvmb", name, "-n", NAMESPACE, "--wait=true"]);
    await scene.operator.start(proxy.identity);
    await scene.expectNothingLeft();
    await vm.expectTidy();
  });

  test("POST pods of a backup does not lose an attempt to a pod that was taken away before it had its order", async () => {
    runs += 1;
    const name = `step-${runs}`;
    await vm.write("vda", `write -P ${runs} ${10 + runs}M 64k`);
    const killed = killAfter("POST pods", 1, name);
    await scene.plane.admin.apply([scene.domainRun(name, vm)]);
    await killed;
    proxy.onWrite = () => false;
    const pod = ["pod", (await scene.agentOf(name)).metadata.name, "-n", NAMESPACE];
    const finalizers = async (list: readonly string[]): Promise<unknown> =>
      await scene.plane.admin.kubectl(["patch", ...pod, "--type=merge", "-p", JSON.stringify({ metadata: { finalizers: list } })]);
    // Its node says that it failed, which no controller would see for long.
    await finalizers(["test.thinstream.dev/stay"]);
    await scene.plane.admin.kubectl(["delete", ...pod, "--wait=false"]);
    await scene.plane.admin.kubectl(["wait", ...pod, "--for=jsonpath={.status.phase}=Failed", "--timeout=60s"]);
    const { promise: seen, resolve } = Promise.withResolvers<void>();
    proxy.onWrite = ({ what }): boolean => {
      if (what === "DELETE secrets" || what === STATUS) resolve();
      return false;
    };
    await scene.operator.start(proxy.identity);
    await seen;
    await finalizers([]);
    const run = await scene.finished(name);
    expect(run.status, scene.operator.log.slice(-3000)).toMatchObject({
      attempts: 1,
      level: "Incremental",
      disks: [{ dirtyBytes: GRANULE }],
    });
    await scene.expectNothingLeft();
  });

  test("POST pods of a reading of the catalog reads it anew, long before one that does not start is given up", async () => {
    const killed = killAfter("POST pods", 1, "BackupRepository//other");
    await scene.plane.admin.apply(repositoryObjects("other", scene.repo));
    await killed;
    proxy.onWrite = () => false;
    await scene.operator.start(proxy.identity);
    const other = { kind: "bkrepo", name: "other", type: "Ready" };
    const ready = await conditionWhen(scene.plane.admin, other, ({ status }) => status === "True", 150_000);
    expect(ready, scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
  });

  test("any write of a status does not either", async () => {
    let nth = 1;
    while (nth < MOST_WRITES && (await survives(STATUS, nth))) nth += 1;
    // Begun, and done, at the least.
    expect(nth).toBeGreaterThan(2);
    await vm.expectTidy();
    const references = await vm.references();
    await scene.expectRestores(await scene.taken("last", vm), references);
  });
});
