import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { VirtualMachineBackup } from "../../src/api/index.ts";
import { conditionOf } from "../../src/controller/said.ts";
import type { Vm } from "../acceptance/vm.ts";
import { type S3Lab, skipWithout, startS3 } from "../lab/index.ts";
import { conditionWhen, type Seen } from "./operator.ts";
import { Scene } from "./scene.ts";

/** An agent's tries at one call end after half a minute at most; SOAK=1 takes the store away for the ten minutes that are promised. */
const OUTAGE_MS = process.env["SOAK"] === "1" ? 600_000 : 45_000;
const GRANULE = 65_536;

describe.skipIf(skipWithout("cluster", "host", "s3"))("a store that does not answer", { timeout: OUTAGE_MS + 400_000 }, () => {
  let s3: S3Lab;
  let scene: Scene;
  let vm: Vm;

  beforeAll(async () => {
    s3 = await startS3();
    // Looks at the repository as often as somebody who wants to know soon.
    scene = await Scene.start({ prefix: "outage", s3, settings: { syncSeconds: 10 } });
    vm = await scene.machine();
  });
  afterAll(async () => {
    await scene?.stop();
    await s3?.stop();
  });

  async function ready(good: (condition: Seen) => boolean): Promise<Seen> {
    return await conditionWhen(scene.plane.admin, { kind: "bkrepo", name: "main", type: "Ready" }, good, 180_000);
  }

  function expectOk(run: VirtualMachineBackup): void {
    expect(conditionOf(run, "Succeeded"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
  }

  test("in the middle of a backup: attempts say so, the repository does, and all goes on when it is back", async () => {
    await vm.write("vda", "write -P 2 8M 64k");
    const references = await vm.references();
    const pause = scene.pauseAt("opened");
    await scene.plane.admin.apply([scene.domainRun("caught", vm)]);
    await pause.reached();
    const halted = Date.now();
    await s3.halt();
    pause.end();
    const waiting = await scene.says("caught", "BackingOff", 180_000);
    expect(waiting).toMatchObject({ status: "Unknown", message: expect.stringMatching(/^attempt 1 failed \(RepositoryUnreachable\): /) });
    await scene.expectEvent("VirtualMachineBackup", "caught", { reason: "RepositoryUnreachable" });
    // The attempt that failed left neither its job nor its checkpoint; that of the last point stays.
    await vm.expectTidy();
    const unreachable = await ready(({ status }) => status === "False");
    expect(unreachable).toMatchObject({ status: "False", reason: "EndpointUnreachable" });
    await scene.expectEvent("BackupRepository", "main", { reason: "EndpointUnreachable", namespace: "default" });
    // A run that is asked for meanwhile waits.
    await scene.plane.admin.apply([scene.domainRun("asked-meanwhile", vm)]);
    const held = await scene.says("asked-meanwhile", "RepositoryNotReady");
    expect(held.message).toMatch(/^the BackupRepository main is not ready: /);
    await sleep(Math.max(0, halted + OUTAGE_MS - Date.now()));
    await s3.resume();
    const runs = await Promise.all(["caught", "asked-meanwhile"].map((name) => scene.finished(name, 240_000)));
    for (const run of runs) expectOk(run);
    const [caught, meanwhile] = runs;
    expect(caught?.status?.lastFailure?.message).toMatch(/did not answer|cannot be reached|ECONNREFUSED|unreachable/i);
    if (caught !== undefined) await scene.expectRestores(caught, references);
    if (meanwhile !== undefined) await scene.expectRestores(meanwhile, references);
    expect(await ready(({ status }) => status === "True")).toMatchObject({ reason: "Available" });
    await vm.expectTidy();
    await scene.expectNothingLeft();
    await scene.expectNextIsRight(vm);
  });

  test("for longer than a run may try: it fails and says why, and the next is right", async () => {
    await vm.write("vda", "write -P 4 10M 64k");
    const pause = scene.pauseAt("opened");
    await scene.plane.admin.apply([scene.domainRun("given-up", vm, { backoffLimit: 0 })]);
    await pause.reached();
    await s3.halt();
    pause.end();
    const failed = conditionOf(await scene.finished("given-up", 180_000), "Succeeded");
    expect(failed).toMatchObject({ status: "False", reason: "BackoffLimitExceeded" });
    expect(failed?.message).toMatch(/^1 attempt failed, the last with RepositoryUnreachable: /);
    await scene.expectEvent("VirtualMachineBackup", "given-up", { reason: "BackupFailed" });
    await vm.expectTidy();
    await s3.resume();
    await ready(({ status }) => status === "True");
    await scene.expectRight("after-given-up", vm, GRANULE);
    await scene.world.expectClean(scene.repo);
  });
});
