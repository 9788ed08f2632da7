import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { join } from "node:path";
import { compareRaw, GuestConsole, rawCopy, run, skipWithout } from "../lab/index.ts";
import type { BackupJson, RestoreJson } from "../support/thinstream.ts";
import { pauseAt } from "./steps.ts";
import { diskOf, expectRestore, levels, type Taken, Vm } from "./vm.ts";
import { World } from "./world.ts";

const skipped = skipWithout("host", "guest");

describe.skipIf(skipped)("a Linux guest", () => {
  let world: World;
  let vm: Vm;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "512M" } }, { guest: true });
  });
  afterAll(async () => world?.stop());

  /** A point while the guest's clock stands, so that there is a disk to compare with. */
  async function takePaused(): Promise<Taken> {
    await vm.domain.guest.sh("sync");
    await world.lab.virsh("suspend", vm.name);
    try {
      return await vm.take();
    } finally {
      await world.lab.virsh("resume", vm.name);
    }
  }

  async function frozen(): Promise<string> {
    const answer = await world.lab.virsh("qemu-agent-command", vm.name, '{"execute":"guest-fsfreeze-status"}');
    return (JSON.parse(answer) as { return: string }).return;
  }

  test("A24: data, deletion, trims and zeroing between points; every point is the disk as it was", async () => {
    const { guest } = vm.domain;
    await guest.sh(
      "dd if=/dev/urandom of=/data/a bs=1M count=24 2>/dev/null; dd if=/dev/urandom of=/data/b bs=1M count=16 2>/dev/null; seq 1 20000 > /data/log",
    );
    const full = await takePaused();
    expect([levels(full), full.backup.consistency, full.backup.warnings]).toEqual([{ vda: "full" }, "crash", []]);
    await guest.sh("rm /data/b; sync; fstrim /data; dd if=/dev/urandom of=/data/a bs=64k count=8 seek=40 conv=notrunc 2>/dev/null");
    const trimmed = await takePaused();
    expect(diskOf(trimmed).zeroBytes).toBeGreaterThan(8 * 2 ** 20);
    await guest.sh(
      "dd if=/dev/zero of=/data/a bs=1M count=4 seek=4 conv=notrunc 2>/dev/null; /sbin/fallocate -p -o 12M -l 4M /data/a; dd if=/dev/urandom of=/data/c bs=1M count=8 2>/dev/null; sync; fstrim /data",
    );
    const last = await takePaused();
    expect([levels(trimmed), levels(last)]).toEqual([{ vda: "incremental" }, { vda: "incremental" }]);
    await vm.expectTidy();
    await vm.expectRestores();
  });

  test("A25: frozen by its agent for the instant: the file system is clean without a repair, files are as they were, the guest goes on", async () => {
    const { guest } = vm.domain;
    const sums = await guest.sh("sync; cd /data; md5sum a c log");
    // A writer that never stops: the freeze alone makes the instant clean.
    await guest.sh("(while :; do date >> /data/busy; done) >/dev/null 2>&1 & echo $! > /tmp/busy");
    const backup = await world.json<BackupJson>("backup", vm.flags(["--quiesce", "required"]));
    expect([backup.consistency, backup.warnings]).toEqual(["filesystem", []]);
    expect(await frozen()).toBe("thawed");
    await guest.sh("kill $(cat /tmp/busy)");
    await vm.expectTidy();
    const output = world.output();
    const { disks } = await world.json<RestoreJson>("restore", ["--point", backup.point, "--output", output]);
    const image = disks[0]?.path ?? "";
    await run("e2fsck", ["-fn", image]);
    for (const line of sums.split("\n")) {
      const [sum, name] = line.split(/\s+/);
      const file = join(world.dir, `dump-${name}`);
      await run("debugfs", ["-R", `dump /${name} ${file}`, image]);
      expect((await run("md5sum", [file])).split(" ")[0]).toBe(sum);
    }
  });

  test("A16: the restored machine, defined beside the original, boots and has its files", async () => {
    const sums = await vm.domain.guest.sh("cd /data; md5sum a c log");
    const last = await takePaused();
    const name = `${vm.name}-copy`;
    const args = [
      "--point",
      last.backup.point,
      "--output",
      world.output(),
      "--format",
      "qcow2",
      "--define",
      "--connect",
      world.lab.uri,
      "--name",
      name,
    ];
    const { disks } = await world.json<RestoreJson>("restore", args);
    expect(await compareRaw(await rawCopy(disks[0]?.path ?? ""), last.references.get("vda")!)).toBeUndefined();
    await world.lab.virsh("suspend", vm.name); // the copy needs the cores, and its serial line's path must be its own
    try {
      await world.lab.virsh("start", name);
      const line =
        /<serial type=['"]unix['"]>\s*<source mode=['"]bind['"] path=['"]([^'"]+)/.exec(await world.lab.virsh("dumpxml", name))?.[1] ?? "";
      const copy = await GuestConsole.connect(line);
      expect(await copy.sh("cd /data; md5sum a c log")).toBe(sums);
      copy.close();
      await world.lab.virsh("destroy", name);
      await world.lab.virsh("undefine", name);
    } finally {
      await world.lab.virsh("resume", vm.name);
    }
  });

  test.each([
    ["SIGTERM", "frozen"],
    ["SIGTERM", "thawed"],
    ["SIGKILL", "frozen"],
    ["SIGKILL", "thawed"],
  ] as const)("A29 D12: %s at %s: the guest is thawed, at the latest by the next run", async (signal, step) => {
    const before = (await world.points()).length;
    const ended = await pauseAt(world, { step, signal, args: ["backup", ...world.repo.flags, ...vm.flags()] });
    if (signal === "SIGTERM") {
      expect([ended.code, await frozen()]).toEqual([1, "thawed"]);
      await vm.expectTidy();
    } else expect([ended.signal, await frozen()]).toEqual(["SIGKILL", step]);
    expect(await world.points()).toHaveLength(before);
    const next = await world.json<BackupJson>("backup", vm.flags());
    expect([next.level, next.consistency, await frozen()]).toEqual(["incremental", "filesystem", "thawed"]);
    await vm.expectTidy();
  });

  test("A1: an agent that does not run: a warning under auto, a refusal under required, nothing said under never", async () => {
    await vm.domain.guest.sh("kill $(pidof qemu-ga)");
    const auto = await vm.backup(["--json"]);
    const said = JSON.parse(auto.stdout) as BackupJson;
    expect([auto.code, said.consistency, said.warnings]).toEqual([3, "crash", [expect.stringContaining("crash-consistent")]]);
    const required = await vm.backup(["--quiesce", "required"]);
    expect([required.code, required.stderr]).toEqual([1, expect.stringContaining("could not be frozen")]);
    const never = await vm.backup(["--quiesce", "never", "--json"]);
    expect([never.code, (JSON.parse(never.stdout) as BackupJson).warnings]).toEqual([0, []]);
    await vm.expectTidy();
    const last = await takePaused();
    await expectRestore(world, last);
    await world.expectClean();
  });
});
