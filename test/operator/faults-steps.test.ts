import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { conditionOf } from "../../src/controller/said.ts";
import { Vm } from "../acceptance/vm.ts";
import { skipWithout } from "../lab/index.ts";
import { KillingProxy, type Write } from "./killing-proxy.ts";
import { Scene } from "./scene.ts";

const GRANULE = 65_536;
/** More than a run has. */
const MOST_STEPS = 30;

describe.skipIf(skipWithout("cluster", "host", "s3"))("a controller that is killed after a step", () => {
  let scene: Scene;
  let vm: Vm;
  let proxy: KillingProxy;

  beforeAll(async () => {
    scene = await Scene.start({ prefix: "steps" });
    vm = await Vm.start(scene.world, { vda: { size: "64M" } });
    await vm.write("vda", "write -P 1 0 4M");
    await scene.taken("base", vm);
    proxy = await KillingProxy.start(scene.plane);
    await scene.operator.stop();
    await scene.operator.start(proxy.identity);
  });
  afterAll(async () => {
    await scene?.stop();
    await proxy?.stop();
  });

  /** Kills the controller once it has made this many changes for a run. @returns the changes, the last of which killed it */
  function killAfter(count: number, run: string): { readonly made: readonly string[]; readonly killed: Promise<void> } {
    const made: string[] = [];
    const { promise: killed, resolve } = Promise.withResolvers<void>();
    proxy.onWrite = ({ what, text }: Write): boolean => {
      if (/ (?:leases|events)/.test(what) || !(text.includes(run) || text.includes("ts-backup-"))) return false;
      made.push(what);
      if (made.length !== count) return made.length > count;
      void scene.operator.stop("SIGKILL").then(resolve);
      return true;
    };
    return { made, killed };
  }

  test("of a backup, whichever it is, neither loses nor repeats the run", async () => {
    const killers: string[] = [];
    for (let step = 1; ; step += 1) {
      expect(step, killers.join(", ")).toBeLessThan(MOST_STEPS);
      const name = `step-${step}`;
      const before = (await scene.world.points(scene.repo)).length;
      await vm.write("vda", `write -P ${step} ${10 + step}M 64k`);
      const { made, killed } = killAfter(step, name);
      await scene.plane.admin.apply([scene.domainRun(name, vm)]);
      const isKilled = await Promise.race([killed.then(() => true), scene.quietAfter(name).then(() => false)]);
      proxy.onWrite = () => false;
      if (isKilled) {
        killers.push(made[step - 1] ?? "");
        await scene.operator.start(proxy.identity);
      }
      const run = await scene.finished(name);
      expect(conditionOf(run, "Succeeded"), `after ${made.join(", ")}: ${scene.operator.log.slice(-3000)}`).toMatchObject({
        status: "True",
      });
      expect(run.status, made.join(", ")).toMatchObject({ attempts: 1, level: "Incremental", disks: [{ dirtyBytes: GRANULE }] });
      await scene.expectNothingLeft();
      expect(await scene.world.points(scene.repo)).toHaveLength(before + 1);
      if (!isKilled) break;
    }
    // The steps that it has to have been, of whatever else there were.
    const steps = [
      "POST secrets",
      "POST pods",
      "PATCH virtualmachinebackups/status",
      "POST restorepoints",
      "DELETE pods",
      "DELETE secrets",
    ];
    expect([...new Set(killers)].toSorted((a, b) => a.localeCompare(b))).toEqual(steps.toSorted((a, b) => a.localeCompare(b)));
    await vm.expectTidy();
    const references = await vm.references();
    await scene.expectRestores(await scene.taken("last", vm), references);
  }, 600_000);
});
