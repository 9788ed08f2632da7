import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createImage, type Flavour, type LibvirtLab, qemuIo, skipWithout, startLibvirt, writeAsGuest } from "../lab/index.ts";
import { levels, Machine, MiB, readDisk, reasonOf } from "./machine.ts";

describe.each<Flavour>(["host", "trixie"])("pull backup on %s", (flavour) => {
  const skipped = skipWithout(flavour);
  let lab: LibvirtLab;
  beforeAll(async () => {
    if (!skipped) lab = await startLibvirt(flavour);
  });
  afterAll(async () => lab?.stop());

  async function machine(...disks: [string, number][]): Promise<Machine> {
    const vm = new Machine(lab);
    for (const [name, size] of disks) await vm.disk(name, size);
    await vm.start();
    return vm;
  }

  test.skipIf(skipped)(
    "A3 A9 A23 D1 D7: full, then incrementals with data, zeroes, discards and unaligned writes; nothing is left",
    async () => {
      const vm = await machine(["vda", 64 * MiB]);
      await vm.write("vda", 0xaa, 0, MiB);
      const full = await vm.backup();
      expect(levels(full.source)).toEqual({ vda: "full" });
      expect(full.source.consistency).toBe("crash");
      await vm.zero("vda", 0, 131072);
      await vm.zero("vda", 262144, 65536, "write -z");
      await vm.zero("vda", 524288, 65536, "discard");
      await vm.zero("vda", 8 * MiB, 2 * MiB);
      await vm.write("vda", 0xcc, 3 * MiB, 127 * 1024);
      const source = await vm.open();
      const counts: Record<string, number> = {};
      await readDisk(source.disks[0]!, full.content.get("vda"), counts);
      // Only long zeros are known as such before they are read.
      expect(counts).toEqual({ clean: 62 * MiB - 6 * 65536, zero: 2 * MiB, data: 6 * 65536 });
      const second = await vm.take(source, full);
      expect(levels(second.source)).toEqual({ vda: "incremental" });
      await vm.write("vda", 1, 63 * MiB + 511, 3);
      const third = await vm.backup({}, second);
      expect(third.source.disks[0]?.base).toBe("point-2");
      expect(await vm.checkpoints()).toEqual([third.source.disks[0]?.checkpoint]);
      expect(await vm.leftovers()).toEqual([]);
      const names = third.source.captures.map((capture) => capture.name);
      expect(names).toEqual(expect.arrayContaining(["domain.xml", "domain-inactive.xml", "checkpoint.xml", "freeze.json", "tool.json"]));
    },
  );

  test.skipIf(skipped)("D4 A13: an aborted run loses nothing and leaves the last point's checkpoint alone", async () => {
    const vm = await machine(["vda", 16 * MiB]);
    const full = await vm.backup();
    await vm.write("vda", 1, 0, 65536);
    const source = await vm.open();
    await source.abort();
    await source.abort();
    expect(await vm.checkpoints()).toEqual([full.source.disks[0]?.checkpoint]);
    expect(await vm.leftovers()).toEqual([]);
    await vm.write("vda", 2, 2 * MiB, 65536);
    const next = await vm.backup({}, full);
    expect(levels(next.source)).toEqual({ vda: "incremental" });
  });

  test.skipIf(skipped)("A17: a differential and a copy make no checkpoint and disturb nothing", async () => {
    const vm = await machine(["vda", 16 * MiB]);
    const full = await vm.backup();
    await vm.write("vda", 1, 0, 65536);
    const differential = await vm.backup({ level: "differential" }, full);
    expect(levels(differential.source)).toEqual({ vda: "differential" });
    expect(differential.source.disks[0]?.checkpoint).toBeNull();
    const copy = await vm.backup({ level: "copy" });
    expect(levels(copy.source)).toEqual({ vda: "copy" });
    await vm.write("vda", 2, MiB, 65536);
    const counts: Record<string, number> = {};
    const source = await vm.open();
    await readDisk(source.disks[0]!, full.content.get("vda"), counts);
    expect(counts["data"]).toBe(2 * 65536);
    await vm.take(source, full);
    expect(await vm.checkpoints()).toHaveLength(1);
  });

  test.skipIf(skipped)("A12: libvirt forgot the checkpoint: it is defined anew and the incremental goes on", async () => {
    const vm = await machine(["vda", 16 * MiB]);
    const full = await vm.backup();
    const second = await vm.backup({}, full);
    await vm.write("vda", 7, MiB, 65536);
    await lab.virsh("checkpoint-delete", "--metadata", vm.name, second.source.disks[0]?.checkpoint ?? "");
    const third = await vm.backup({}, second);
    expect(levels(third.source)).toEqual({ vda: "incremental" });
    expect(await vm.checkpoints()).toEqual([third.source.disks[0]?.checkpoint]);
  });

  test.skipIf(skipped)(
    "A27 D9 D14: a lost bitmap makes that disk alone full, with or without the checkpoint's metadata; then it goes on",
    async () => {
      const vm = await machine(["vda", 16 * MiB], ["vdb", 16 * MiB]);
      const full = await vm.backup();
      for (const [round, metadata] of [true, false].entries()) {
        const last = vm.bases[0]!.checkpoint;
        await vm.domain.destroy();
        await lab.qemuImg("bitmap", "--remove", vm.specs[1]!.path, last);
        if (!metadata) await lab.virsh("checkpoint-delete", "--metadata", vm.name, last);
        await vm.domain.start();
        await vm.write("vda", 3 + round, 0, 65536);
        await vm.write("vdb", 5 + round, MiB, 65536);
        const before = { ...full, content: new Map([...vm.truth].map(([name, bytes]) => [name, Buffer.from(bytes)])) };
        before.content.get("vda")!.fill(0x99, 0, 65536); // what changed must be read, not taken from the base
        const next = await vm.backup({}, before);
        expect(levels(next.source)).toEqual({ vda: "incremental", vdb: "full" });
        expect(reasonOf(next.source, "vdb")).toMatch(/lost|bitmap/);
        expect(await vm.checkpoints()).toEqual([next.source.disks[0]?.checkpoint]);
      }
      const last = await vm.backup({}, { ...full, content: vm.truth });
      expect(levels(last.source)).toEqual({ vda: "incremental", vdb: "incremental" });
    },
  );

  test.skipIf(skipped)("A34 D14: a new disk is full, a removed one is gone, the others stay incremental", async () => {
    const vm = await machine(["vda", 16 * MiB], ["vdb", 8 * MiB]);
    const full = await vm.backup();
    await vm.domain.destroy();
    await vm.domain.undefine();
    vm.specs.splice(1, 1);
    await vm.disk("vdc", 8 * MiB);
    await vm.start({ uuid: vm.domain.uuid });
    await vm.write("vdc", 9, 0, 65536);
    await vm.write("vda", 9, 0, 65536);
    const next = await vm.backup({}, full);
    expect(levels(next.source)).toEqual({ vda: "incremental", vdc: "full" });
    expect(await vm.checkpoints()).toEqual([next.source.disks[0]?.checkpoint]);
  });

  test.skipIf(skipped)("A6: chosen and excluded disks; an unknown name is an error; the disk left out keeps its checkpoint", async () => {
    const vm = await machine(["vda", 8 * MiB], ["vdb", 8 * MiB]);
    await expect(vm.open({ disks: ["vdz"] })).rejects.toMatchObject({ code: "no-such-disk" });
    const full = await vm.backup();
    await vm.write("vdb", 1, 0, 65536);
    const one = await vm.backup({ excludeDisks: ["vdb"] }, full);
    expect(levels(one.source)).toEqual({ vda: "incremental" });
    expect(await vm.checkpoints()).toHaveLength(2);
    const both = await vm.backup({}, { ...full, content: new Map([...full.content, ...one.content]) });
    expect(levels(both.source)).toEqual({ vda: "incremental", vdb: "incremental" });
    expect(await vm.checkpoints()).toHaveLength(1);
    expect(await vm.leftovers()).toEqual([]);
  });

  test.skipIf(skipped)("raw and qcow2 version 2: included, full, and said why; a CD-ROM is left out with a sentence", async () => {
    const vm = new Machine(lab);
    await vm.disk("vda", 8 * MiB);
    await vm.disk("vdb", 8 * MiB, { format: "raw" });
    await vm.disk("vdc", 8 * MiB, { compat: "0.10" });
    const iso = await createImage(join(lab.dir, `${vm.name}.iso`), { size: MiB, format: "raw" });
    vm.specs.push({ name: "sda", path: iso, format: "raw", device: "cdrom", bus: "sata", readonly: true });
    await vm.start({ devices: "" });
    await vm.write("vdb", 3, 0, 65536);
    await vm.write("vdc", 3, 0, 65536);
    const full = await vm.backup();
    expect(full.source.warnings).toEqual([expect.stringContaining("disk sda is a cdrom and was left out")]);
    const next = await vm.backup({}, full);
    expect(levels(next.source)).toEqual({ vda: "incremental", vdb: "full", vdc: "full" });
    expect(reasonOf(next.source, "vdb")).toContain("raw image");
    expect(reasonOf(next.source, "vdc")).toContain("version 2");
    expect(next.source.disks.map((disk) => disk.checkpoint !== null)).toEqual([true, false, false]);
  });

  test.skipIf(skipped)("A35 D3: 4 KiB clusters and more extents than a reply holds: the change far behind them is found", async () => {
    const vm = new Machine(lab);
    const path = await vm.disk("vda", 640 * MiB, { clusterSize: 4096 });
    const commands: string[] = [];
    for (let at = 0; at < 600 * MiB; at += 8192) commands.push(`write -P 17 ${at} 4096`);
    for (let at = 0; at < commands.length; at += 2000) await qemuIo(path, ...commands.slice(at, at + 2000));
    for (let at = 0; at < 600 * MiB; at += 8192) vm.model("vda", 17, at, 4096);
    await vm.start();
    const full = await vm.backup();
    await vm.write("vda", 5, 630 * MiB, 65536);
    const next = await vm.backup({}, full);
    expect(levels(next.source)).toEqual({ vda: "incremental" });
  });

  test.skipIf(skipped)("A34: a disk grown between two points is incremental, and its new end is read", async () => {
    const vm = await machine(["vda", 8 * MiB]);
    await vm.write("vda", 1, 7 * MiB, MiB);
    const full = await vm.backup();
    await vm.domain.destroy();
    await lab.qemuImg("resize", "-f", "qcow2", vm.specs[0]?.path ?? "", "12M");
    vm.truth.set("vda", Buffer.concat([vm.truth.get("vda") ?? Buffer.alloc(0), Buffer.alloc(4 * MiB)]));
    await vm.domain.start();
    await vm.write("vda", 2, 10 * MiB, 65536);
    const next = await vm.backup({}, full);
    expect(next.source.disks[0]?.size).toBe(12 * MiB);
    expect(levels(next.source)["vda"]).toMatch(/incremental|full/);
    const again = await vm.backup({}, next);
    expect(levels(again.source)).toEqual({ vda: "incremental" });
  });

  test.skipIf(skipped)("A15 D2: what was written while the machine was off is in the next online incremental", async () => {
    const vm = await machine(["vda", 8 * MiB]);
    const full = await vm.backup();
    await vm.write("vda", 1, 0, 65536);
    await vm.domain.destroy();
    await qemuIo(vm.specs[0]?.path ?? "", "write -P 2 2M 64k");
    vm.model("vda", 2, 2 * MiB, 65536);
    await vm.domain.start();
    const next = await vm.backup({}, full);
    expect(levels(next.source)).toEqual({ vda: "incremental" });
  });

  test.skipIf(skipped)("A37: two repositories of one machine do not touch each other's checkpoints, nor a foreign one", async () => {
    const vm = await machine(["vda", 8 * MiB]);
    await lab.virsh("checkpoint-create-as", vm.name, "someone-elses");
    const first = await vm.backup();
    const mine = vm.bases;
    vm.tag = "deadbeef";
    vm.bases = [];
    await vm.write("vda", 1, 0, 65536);
    const other = await vm.backup();
    await vm.write("vda", 2, MiB, 65536);
    await vm.backup({}, other);
    vm.tag = "0badcafe";
    vm.bases = mine;
    const back = await vm.backup({}, first);
    expect(levels(back.source)).toEqual({ vda: "incremental" });
    expect(await vm.checkpoints()).toHaveLength(3);
    expect(await vm.checkpoints()).toContain("someone-elses");
  });

  test.skipIf(skipped)(
    "bad input: unknown domain, stopped domain, foreign job, second backup at once: one clear line, nothing changed",
    async () => {
      const vm = await machine(["vda", 8 * MiB]);
      await expect(vm.open({ domain: "nobody" })).rejects.toMatchObject({ code: "no-domain", message: 'there is no domain "nobody"' });
      await expect(vm.open({ uri: "qemu:///system?socket=/nonexistent" })).rejects.toMatchObject({ code: "unreachable" });
      const first = await vm.open();
      await expect(vm.open()).rejects.toMatchObject({ code: "busy" });
      await vm.take(first);
      const foreign = join(lab.dir, "foreign");
      writeFileSync(foreign, `<domainbackup mode='pull'><server transport='unix' socket='${foreign}.sock'/></domainbackup>`);
      await lab.virsh("backup-begin", vm.name, foreign);
      await expect(vm.open()).rejects.toMatchObject({ code: "foreign-job" });
      await lab.virsh("domjobabort", vm.name);
      await expect(vm.open({ quiesce: "required" })).rejects.toMatchObject({ code: "freeze-failed" });
      await expect(vm.open({ runtimeDir: join(lab.dir, "missing") })).rejects.toThrow(/missing/);
      await expect(vm.open({ scratchFloor: 2 ** 60 })).rejects.toMatchObject({ code: "no-space" });
      await expect(vm.open({ signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
      expect(await vm.checkpoints()).toHaveLength(1);
      expect(await vm.leftovers()).toEqual([]);
      await vm.domain.destroy();
      await expect(vm.open()).rejects.toMatchObject({ code: "not-running" });
    },
  );

  test.skipIf(skipped)(
    "A20: the machine stopped, or its job ended from outside, during a read: an error that says so, and a clean end",
    async () => {
      const vm = await machine(["vda", 8 * MiB]);
      const full = await vm.backup();
      await vm.write("vda", 1, 0, MiB);
      const ended = await vm.open();
      await lab.virsh("domjobabort", vm.name);
      await expect(readDisk(ended.disks[0]!, full.content.get("vda"))).rejects.toMatchObject({ code: "job-lost" });
      await ended.abort();
      expect(await vm.checkpoints()).toHaveLength(1);
      const stopped = await vm.open();
      await vm.domain.destroy();
      await expect(readDisk(stopped.disks[0]!, full.content.get("vda"))).rejects.toMatchObject({
        code: "job-lost",
        message: expect.stringContaining("stopped"),
      });
      await stopped.abort();
      expect(await vm.leftovers()).toEqual([]);
      await vm.domain.start();
      const next = await vm.backup({}, full);
      expect(levels(next.source)).toEqual({ vda: "incremental" });
      expect(await vm.checkpoints()).toHaveLength(1);
    },
  );

  test.skipIf(skipped)("the daemon restarts during the backup: reading goes on, and the end is clean", async () => {
    const vm = await machine(["vda", 8 * MiB]);
    await vm.write("vda", 1, 0, MiB);
    const source = await vm.open();
    await lab.restartDaemon();
    await vm.take(source);
    expect(await vm.leftovers()).toEqual([]);
    expect(await vm.checkpoints()).toHaveLength(1);
  });

  test.skipIf(skipped)("scratch space runs out: the job ends before the guest is hurt, and the error says so", async () => {
    const vm = await machine(["vda", 8 * MiB]);
    await vm.write("vda", 1, 0, MiB);
    const free = Number((await lab.exec("df", "--output=avail", "-B1", lab.dir)).trim().split("\n").at(-1));
    const source = await vm.open({ scratchFloor: free - 64 * MiB });
    await lab.exec("dd", "if=/dev/zero", `of=${join(lab.dir, "fill")}`, "bs=1M", "count=512", "status=none");
    await new Promise((resolve) => setTimeout(resolve, 2500));
    await expect(readDisk(source.disks[0]!, undefined)).rejects.toMatchObject({ code: "no-space" });
    await source.abort();
    await lab.exec("rm", join(lab.dir, "fill"));
    expect(await vm.leftovers()).toEqual([]);
    await writeAsGuest(vm.domain, "vda", "write -P 2 0 64k");
  });

  test.skipIf(skipped || flavour === "host")(
    "A28: a raw disk behind a qcow2 overlay is incremental while it runs, and full after a stop",
    async () => {
      const vm = new Machine(lab);
      await vm.disk("vda", 16 * MiB, { dataFile: join(lab.dir, `${vm.name}.raw`) });
      await vm.start();
      await vm.write("vda", 1, 0, MiB);
      const full = await vm.backup();
      await vm.write("vda", 2, MiB, 65536);
      await vm.zero("vda", 0, 65536);
      const next = await vm.backup({}, full);
      expect(levels(next.source)).toEqual({ vda: "incremental" });
      await vm.domain.destroy();
      const raw = join(lab.dir, `${vm.name}.raw`);
      await lab.exec("qemu-io", "-f", "raw", "-c", "write -P 9 5M 64k", raw);
      vm.model("vda", 9, 5 * MiB, 65536);
      await vm.domain.start();
      const after = await vm.backup({}, next);
      expect(levels(after.source)).toEqual({ vda: "full" });
      expect(reasonOf(after.source, "vda")).toContain("stopped");
    },
  );
});
