import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PullStep } from "../../src/agent/index.ts";
import { type LibvirtLab, skipWithout, startLibvirt } from "../lab/index.ts";
import { levels, Machine, MiB } from "./machine.ts";

const skipped = skipWithout("host");
const steps: readonly (PullStep | "read")[] = [
  "connected",
  "leftovers-cleared",
  "directory-made",
  "bases-defined",
  "begun",
  "exported",
  "read",
  "job-ended",
  "checkpoint-deleted",
  "directory-removed",
];

describe("killed at any step", () => {
  let lab: LibvirtLab;
  beforeAll(async () => {
    if (!skipped) lab = await startLibvirt("host");
  });
  afterAll(async () => lab?.stop());

  function runKilled(
    vm: Machine,
    killAt: string,
    end: "commit" | "abort",
  ): { readonly signal: string | null; readonly checkpoint: string } {
    const options = {
      uri: lab.uri,
      domain: vm.name,
      level: "auto",
      quiesce: "auto",
      runtimeDir: vm.runtimeDir,
      scratchDir: join(lab.dir, "s2"),
      repoTag: vm.tag,
      bases: vm.bases,
      committed: vm.committed,
      scratchFloor: MiB,
    };
    const script = join(import.meta.dirname, "run-once.ts");
    const { signal, stdout, stderr } = spawnSync(process.execPath, [script, JSON.stringify({ options, killAt, end })], {
      encoding: "utf8",
    });
    if (signal === null) throw new Error(`it was not killed at ${killAt}: ${stderr}`);
    return { signal, checkpoint: stdout.trim() };
  }

  test.skipIf(skipped).each(steps)(
    "A29 D4 D12: SIGKILL at %s: the next run is right and incremental, and clears everything",
    async (step) => {
      await lab.exec("mkdir", "-p", join(lab.dir, "s2"));
      const vm = new Machine(lab);
      await vm.disk("vda", 16 * MiB);
      await vm.start();
      const full = await vm.backup();
      await vm.write("vda", 1, 0, 65536);
      expect(runKilled(vm, step, "commit").signal).toBe("SIGKILL");
      await vm.write("vda", 2, 2 * MiB, 65536);
      // The point was not committed, so the superseded checkpoint may be gone only where the killed run thought it was.
      const next = await vm.backup({}, full);
      const believedCommitted = step === "checkpoint-deleted" || step === "directory-removed";
      expect(levels(next.source)).toEqual({ vda: believedCommitted ? "full" : "incremental" });
      expect(await vm.checkpoints()).toEqual([next.source.disks[0]?.checkpoint]);
      expect(await vm.leftovers()).toEqual([]);
      expect((await lab.exec("ls", join(lab.dir, "s2"))).trim()).toBe("");
      await vm.write("vda", 3, 3 * MiB, 65536);
      expect(levels((await vm.backup({}, next)).source)).toEqual({ vda: "incremental" });
    },
  );

  test.skipIf(skipped).each<PullStep>(["job-ended", "checkpoint-undone"])("SIGKILL at %s of an abort", async (step) => {
    await lab.exec("mkdir", "-p", join(lab.dir, "s2"));
    const vm = new Machine(lab);
    await vm.disk("vda", 16 * MiB);
    await vm.start();
    const full = await vm.backup();
    await vm.write("vda", 1, 0, 65536);
    runKilled(vm, step, "abort");
    const next = await vm.backup({}, full);
    expect(levels(next.source)).toEqual({ vda: "incremental" });
    expect(await vm.checkpoints()).toEqual([next.source.disks[0]?.checkpoint]);
    expect(await vm.leftovers()).toEqual([]);
  });
});

describe("with a guest", () => {
  const without = skipWithout("host", "guest");
  let lab: LibvirtLab;
  let vm: Machine;
  beforeAll(async () => {
    if (without) return;
    lab = await startLibvirt("host");
    vm = new Machine(lab);
    await vm.disk("vda", 512 * MiB);
    await vm.start({ guest: true });
    for (let tries = 0; (await status().catch(() => "")) === ""; tries += 1) {
      if (tries > 120) throw new Error("the guest agent did not come up");
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  });
  afterAll(async () => lab?.stop());

  test.skipIf(without)("frozen around the beginning only: file-system consistent; the guest goes on", async () => {
    const source = await vm.open({ quiesce: "required" });
    expect(source.consistency).toBe("filesystem");
    expect(source.warnings).toEqual([]);
    const freeze = JSON.parse(Buffer.from(source.captures.find(({ name }) => name === "freeze.json")!.bytes).toString()) as {
      frozen: number;
      thawed: number;
      frozenMs: number;
    };
    expect(freeze.frozen).toBeGreaterThan(0);
    expect(freeze.thawed).toBe(freeze.frozen);
    console.log(`frozen for ${freeze.frozenMs} ms`);
    expect(await status()).toBe("thawed");
    expect(source.captures.map(({ name }) => name)).toContain("guest-info.json");
    await source.abort();
    expect(await vm.leftovers()).toEqual([]);
  });

  test.skipIf(without)("a paused guest is never frozen", async () => {
    await lab.virsh("suspend", vm.name);
    let source;
    try {
      source = await vm.open({ quiesce: "auto" });
    } finally {
      await lab.virsh("resume", vm.name);
    }
    const report = Buffer.from(source.captures.find(({ name }) => name === "freeze.json")!.bytes).toString();
    await source.abort();
    expect(source.consistency).toBe("crash");
    expect((JSON.parse(report) as { obstacle: string }).obstacle).toContain("paused");
  });

  test.skipIf(without)("an agent that does not answer: bounded, crash-consistent under auto, refused under required", async () => {
    const pid = (await vm.domain.guest.sh("pidof qemu-ga")).trim();
    await vm.domain.guest.sh(`kill -STOP ${pid}`);
    const began = Date.now();
    await expect(vm.open({ quiesce: "required", freezeTimeout: 3 })).rejects.toMatchObject({ code: "freeze-failed" });
    const source = await vm.open({ quiesce: "auto", freezeTimeout: 3 });
    expect(source.consistency).toBe("crash");
    expect(Date.now() - began).toBeLessThan(90_000);
    await source.abort();
    await vm.domain.guest.sh(`kill -CONT ${pid}`);
    expect(await vm.leftovers()).toEqual([]);
  });

  test.skipIf(without)("SIGKILL while frozen: the next run thaws", async () => {
    const options = {
      uri: lab.uri,
      domain: vm.name,
      level: "auto",
      quiesce: "required",
      runtimeDir: vm.runtimeDir,
      repoTag: vm.tag,
      bases: [],
      committed: [],
    };
    const script = join(import.meta.dirname, "run-once.ts");
    spawnSync(process.execPath, [script, JSON.stringify({ options, killAt: "frozen", end: "abort" })]);
    expect(await status()).toBe("frozen");
    await expect(vm.open({ excludeDisks: ["nonesuch"] })).rejects.toMatchObject({ code: "no-such-disk" });
    expect(await status()).toBe("thawed");
    expect(await vm.leftovers()).toEqual([]);
  });

  async function status(): Promise<string> {
    const answer = await lab.virsh("qemu-agent-command", vm.name, '{"execute":"guest-fsfreeze-status"}');
    return (JSON.parse(answer) as { return: string }).return;
  }
});
