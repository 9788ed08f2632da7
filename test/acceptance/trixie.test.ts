import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createImage, qemuIo, skipWithout } from "../lab/index.ts";
import { diskOf, levels, Vm } from "./vm.ts";
import { MiB, World } from "./world.ts";

const skipped = skipWithout("trixie");
const GRANULE = 65536;

describe.skipIf(skipped)("raw stores behind a qcow2 overlay, as KubeVirt's changed block tracking has them", () => {
  let world: World;
  beforeAll(async () => (world = await World.start("trixie")));
  afterAll(async () => world?.stop());

  async function start(): Promise<Vm> {
    const vm = new Vm(world);
    const dataFile = join(world.lab.dir, `${vm.name}.raw`);
    await vm.addDisk("vda", { size: "64M", dataFile, spec: { alias: "ua-rootdisk" } });
    await vm.define();
    await vm.domain.start();
    return vm;
  }

  test("A28: a raw disk with a data store is backed up incrementally, zeros as zeros", async () => {
    const vm = await start();
    await vm.write("vda", "write -P 1 0 4M");
    const full = await vm.take();
    // Through the overlay a full shows one data extent and no hole: what reads as zeros costs nothing all the same.
    expect([levels(full), diskOf(full).newBytes]).toEqual([{ vda: "full" }, expect.any(Number)]);
    expect(diskOf(full).newBytes).toBeLessThanOrEqual(4 * MiB);
    await vm.write("vda", "write -P 2 10M 64k", "write -z -u 1M 128k", "discard 2M 64k");
    const second = await vm.take();
    expect([levels(second), diskOf(second).dirtyBytes]).toEqual([{ vda: "incremental" }, 4 * GRANULE]);
    await vm.write("vda", "write -P 3 63M 1M");
    const third = await vm.take();
    expect([levels(third), diskOf(third).dirtyBytes]).toEqual([{ vda: "incremental" }, MiB]);
    await vm.expectTidy();
    await vm.expectRestores();
  });

  test("A28: its raw store changed behind the overlay's back while the machine was off: seen by comparing, not believed to the bitmap", async () => {
    const vm = await start();
    await vm.write("vda", "write -P 1 0 4M");
    await vm.take();
    await vm.domain.destroy();
    await qemuIo(vm.disks[0]?.dataFile ?? "", "write -P 9 2M 64k");
    await vm.domain.start();
    const point = await vm.take();
    expect([levels(point), diskOf(point).newBytes]).toEqual([{ vda: "full" }, GRANULE]);
    expect(diskOf(point).reason).toMatch(/stopped/);
    await vm.write("vda", "write -P 4 5M 64k");
    const next = await vm.take();
    expect([levels(next), diskOf(next).dirtyBytes]).toEqual([{ vda: "incremental" }, GRANULE]);
    await vm.domain.destroy();
    await qemuIo(vm.disks[0]?.dataFile ?? "", "write -P 8 3M 64k");
    const off = await vm.take();
    expect([levels(off), diskOf(off).newBytes]).toEqual([{ vda: "full" }, GRANULE]);
    await vm.expectRestores();
  });

  test("A12 A27: on the newest libvirt too a forgotten checkpoint is healed, and a lost bitmap costs one comparison", async () => {
    const vm = await Vm.start(world, { vda: { size: "64M" } });
    await vm.write("vda", "write -P 1 0 4M");
    await vm.take();
    await world.lab.virsh("checkpoint-delete", "--metadata", vm.name, (await vm.checkpoints())[0]!);
    await vm.write("vda", "write -P 2 1M 64k");
    expect(levels(await vm.take())).toEqual({ vda: "incremental" });
    const [checkpoint] = await vm.checkpoints();
    await vm.domain.destroy();
    await world.lab.qemuImg("bitmap", "--remove", vm.path(), checkpoint!);
    await vm.domain.start();
    await vm.write("vda", "write -z 2M 64k");
    const point = await vm.take();
    expect([levels(point), diskOf(point).newBytes]).toEqual([{ vda: "full" }, 0]);
    await vm.expectTidy();
    await vm.expectRestores();
  });
});

describe.skipIf(skipWithout("host"))("images without bitmaps", () => {
  let world: World;
  beforeAll(async () => (world = await World.start("host")));
  afterAll(async () => world?.stop());

  test("A28: qcow2 version 2 and raw disks fall back to comparing and say so; a bare image needs no libvirt", async () => {
    const vm = await Vm.start(world, { vda: { size: "32M" }, vdb: { size: "32M", compat: "0.10" }, vdc: { size: "32M", format: "raw" } });
    for (const { name } of vm.disks) await vm.write(name, "write -P 1 0 4M");
    await vm.take();
    for (const { name } of vm.disks) await vm.write(name, "write -P 2 1M 64k", "write -z 2M 64k");
    const point = await vm.take();
    expect(levels(point)).toEqual({ vda: "incremental", vdb: "full", vdc: "full" });
    expect(diskOf(point, "vdb").reason).toMatch(/version 2.*cannot keep track/);
    expect(diskOf(point, "vdc").reason).toMatch(/raw image cannot keep track/);
    expect(["vda", "vdb", "vdc"].map((name) => diskOf(point, name).newBytes <= GRANULE)).toEqual([true, true, true]);
    await vm.expectTidy();
    await vm.expectRestores();
  });

  test("A28: backup --image of a raw file, twice", async () => {
    const path = await createImage(join(world.dir, "bare.raw"), { size: "32M", format: "raw" });
    const vm = new Vm(world, "bare");
    vm.disks.push({ name: "vda", path, format: "raw" });
    await qemuIo(path, "write -P 1 0 4M");
    const full = await vm.takeImage();
    await qemuIo(path, "write -P 2 1M 64k");
    const second = await vm.takeImage();
    expect([diskOf(full).level, diskOf(second).level, diskOf(second).newBytes]).toEqual(["full", "full", GRANULE]);
    await vm.expectRestores();
    rmSync(path);
    expect(world.hostLeftovers(path)).toEqual([]);
  });
});
