import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Vm } from "../acceptance/vm.ts";
import { World } from "../acceptance/world.ts";
import { run, skipWithout } from "../lab/index.ts";
import type { RestoreJson } from "../support/thinstream.ts";
import { backupOf, placeIn, succeeded } from "./ordered-vm.ts";
import { follow } from "./placed-order.ts";

const skipped = skipWithout("host", "guest");
const never = new AbortController().signal;

describe.skipIf(skipped)("a Linux guest that the controller freezes", () => {
  let world: World;
  let vm: Vm;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "256M" } }, { guest: true });
  });
  afterAll(async () => world?.stop());

  async function frozen(): Promise<string> {
    const answer = await world.lab.virsh("qemu-agent-command", vm.name, '{"execute":"guest-fsfreeze-status"}');
    return (JSON.parse(answer) as { return: string }).return;
  }

  test("is clean in the point, with a writer that never stops, and is thawed by nobody else", async () => {
    const { guest } = vm.domain;
    await guest.sh("(while :; do date >> /data/busy; done) >/dev/null 2>&1 & echo $! > /tmp/busy");
    const freeze = { mode: "Required", by: "controller", timeoutSeconds: 60 } as const;
    const running = (await placeIn(world, backupOf(vm, { freeze }))).start();
    await follow(running, "Freeze");
    await world.lab.virsh("domfsfreeze", vm.name);
    await running.channel.frozen({ ok: true, until: new Date(Date.now() + 60_000) }, never);
    let phase = (await running.channel.progress(never)).phase;
    for (; phase === "Freeze"; phase = (await running.channel.wait(phase, never)).phase);
    // The agent leaves the thawing to the controller, which now knows that it may.
    expect(await frozen()).toBe("frozen");
    await world.lab.virsh("domfsthaw", vm.name);
    const result = succeeded(await running.ended);
    expect([result.point?.consistency, result.warnings]).toEqual(["filesystem", []]);
    await guest.sh("kill $(cat /tmp/busy)");
    await vm.expectTidy();
    const { disks } = await world.json<RestoreJson>("restore", ["--point", result.point?.id ?? "", "--output", world.output()]);
    await run("e2fsck", ["-fn", disks[0]?.path ?? ""]);
  });
});
