import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run, skipWithout } from "../lab/index.ts";
import { diskOf, levels, Vm } from "./vm.ts";
import { MiB, World } from "./world.ts";

const skipped = skipWithout("host");
const GRANULE = 65536;
/** Ways to regrow a disk that allocation does not tell of: what is written to has data around it in its cluster, what is preallocated looks like data. */
const HOWS: readonly [string, string, readonly string[]][] = [
  ["in clusters of 64 KiB", "64k", []],
  ["in clusters of 2 MiB", "2M", []],
  ["and is preallocated", "64k", ["--preallocation=metadata"]],
];

describe.skipIf(skipped)("what a chain of points must survive", () => {
  let world: World;
  beforeAll(async () => (world = await World.start("host")));
  afterAll(async () => world?.stop());

  test("A12: libvirt forgot the checkpoint, or the whole domain: the incremental goes on", async () => {
    const vm = await Vm.start(world, { vda: { size: "64M" } });
    await vm.write("vda", "write -P 1 0 1M");
    const full = await vm.take();
    await vm.write("vda", "write -P 2 1M 64k");
    await world.lab.virsh("checkpoint-delete", "--metadata", vm.name, diskOf(full) && (await vm.checkpoints())[0]!);
    const healed = await vm.take();
    await vm.domain.destroy();
    await vm.domain.undefine();
    await vm.define();
    await vm.domain.start();
    await vm.write("vda", "write -P 3 2M 64k", "write -z 0 64k");
    const moved = await vm.take();
    expect([levels(full), levels(healed), levels(moved)]).toEqual([{ vda: "full" }, { vda: "incremental" }, { vda: "incremental" }]);
    expect([diskOf(healed).dirtyBytes, diskOf(moved).dirtyBytes]).toEqual([GRANULE, 2 * GRANULE]);
    await vm.expectTidy();
    await vm.expectRestores();
  });

  test("A27 D7 D9: a lost bitmap, with or without its checkpoint: that disk is read whole and compared, the other stays incremental", async () => {
    const vm = await Vm.start(world, { vda: { size: "64M" }, vdb: { size: "32M" } });
    await vm.write("vda", "write -P 1 0 8M");
    await vm.write("vdb", "write -P 2 0 8M");
    await vm.take();
    for (const metadata of [true, false]) {
      const [checkpoint] = await vm.checkpoints();
      await vm.domain.destroy();
      await world.lab.qemuImg("bitmap", "--remove", vm.path("vdb"), checkpoint!);
      if (!metadata) await world.lab.virsh("checkpoint-delete", "--metadata", vm.name, checkpoint!);
      await vm.domain.start();
      await vm.write("vda", `write -P ${metadata ? 3 : 4} 1M 64k`);
      await vm.write("vdb", `write -z ${metadata ? 512 : 1024}k 128k`, "write -P 9 9M 64k");
      const point = await vm.take();
      expect(levels(point)).toEqual({ vda: "incremental", vdb: "full" });
      expect(diskOf(point, "vdb").reason).toMatch(/lost|bitmap/);
      expect(diskOf(point, "vdb").newBytes).toBeLessThanOrEqual(GRANULE);
      await vm.expectTidy();
    }
    await vm.write("vdb", "write -P 6 2M 64k");
    expect(levels(await vm.take())).toEqual({ vda: "incremental", vdb: "incremental" });
    await vm.expectRestores();
  });

  test("A34 D14 A6: disks that come, go, grow, or are left out", async () => {
    const vm = await Vm.start(world, { vda: { size: "32M" }, vdb: { size: "16M" } });
    await vm.write("vda", "write -P 1 0 1M");
    await vm.write("vdb", "write -P 2 0 1M");
    await vm.take();
    await vm.write("vda", "write -P 3 1M 64k");
    const onlyA = await vm.take({ args: ["--disk", "vda"] });
    await vm.write("vdb", "write -P 4 1M 64k");
    const withoutA = await vm.take({ args: ["--exclude-disk", "vda"] });
    expect([levels(onlyA), levels(withoutA)]).toEqual([{ vda: "incremental" }, { vdb: "incremental" }]);
    await vm.write("vda", "write -P 5 2M 64k");
    const both = await vm.take();
    expect([diskOf(both, "vda").dirtyBytes, diskOf(both, "vdb").dirtyBytes]).toEqual([GRANULE, 0]);
    await vm.domain.destroy();
    await vm.domain.undefine();
    vm.disks.splice(1, 1);
    await vm.addDisk("vdc", { size: "16M" });
    await vm.define();
    await vm.domain.start();
    await vm.write("vdc", "write -P 6 0 1M");
    await vm.write("vda", "write -P 7 3M 64k");
    expect(levels(await vm.take())).toEqual({ vda: "incremental", vdc: "full" });
    await world.lab.virsh("blockresize", vm.name, vm.path("vda"), "48M");
    await vm.write("vda", "write -P 8 47M 1M", "write -P 9 4M 64k");
    const grown = await vm.take();
    expect(diskOf(grown).dirtyBytes).toBeLessThan(32 * MiB);
    await vm.expectTidy();
    await vm.expectRestores();
  });

  test("A15 A18 D2 D13: a stopped machine first, then running, stopped with offline writes, and running again: no dead end, nothing lost", async () => {
    const vm = new Vm(world);
    await vm.addDisk("vda", { size: "64M" });
    await vm.define();
    await vm.write("vda", "write -P 1 0 1M");
    const cold = await vm.take();
    expect([cold.backup.level, cold.backup.consistency]).toEqual(["full", "offline"]);
    await vm.write("vda", "write -P 2 1M 64k");
    const colder = await vm.take();
    expect(diskOf(colder).newBytes).toBe(GRANULE);
    await vm.domain.start();
    const online = await vm.take();
    expect([levels(online), diskOf(online).newBytes]).toEqual([{ vda: "full" }, 0]);
    await vm.write("vda", "write -P 3 2M 64k");
    const incremental = await vm.take();
    await vm.domain.destroy();
    await vm.write("vda", "write -P 4 3M 64k", "write -z 0 64k");
    const offline = await vm.take();
    await vm.write("vda", "write -P 5 2M 128k");
    const again = await vm.take();
    expect([incremental, offline, again].map((point) => levels(point))).toEqual(Array.from({ length: 3 }, () => ({ vda: "incremental" })));
    await vm.domain.start();
    await vm.write("vda", "write -P 6 5M 64k");
    const last = await vm.take();
    expect(levels(last)).toEqual({ vda: "incremental" });
    await vm.expectTidy();
    await vm.expectRestores();
  });

  describe.each<[string, (vm: Vm, lost: boolean, args: readonly string[]) => Promise<unknown>]>([
    ["while its machine ran", resizeLive],
    [
      "while its machine was off",
      async (vm, lost, args) => {
        await resizeOff(vm, lost, args);
        await vm.domain.start();
      },
    ],
    ["while its machine was off and is backed up", resizeOff],
  ])("A34: of a disk that shrank and grew %s,", (_when, shrinkAndGrow) => {
    test.each(shrinkAndGrow === resizeLive ? HOWS.slice(0, 2) : HOWS)(
      "%s, the next point has lost what it lost, and incrementals go on",
      async (_how, clusterSize, args) => {
        const vm = await Vm.start(world, { vda: { size: "64M", clusterSize } });
        await vm.write("vda", "write -P 1 0 1M", "write -P 2 40M 1M", "write -P 3 63M 1M");
        await vm.take();
        await shrinkAndGrow(vm, true, args);
        await vm.write("vda", "write -P 4 63M 64k");
        const point = await vm.take();
        expect(levels(point)).toEqual({ vda: "full" });
        expect(diskOf(point).reason).toMatch(/shrank and grew/);
        // What is preallocated may show what its clusters held before.
        expect(diskOf(point).newBytes).toBeLessThanOrEqual(2 * GRANULE);
        // A backup of a stopped machine makes no new bitmap.
        if (!(await vm.isActive())) await vm.domain.start();
        await vm.take();
        await vm.write("vda", "write -P 5 1M 64k");
        expect(levels(await vm.take())).toEqual({ vda: "incremental" });
        await vm.expectTidy();
        await vm.expectRestores();
      },
    );

    test("and lost nothing, the next point is incremental", async () => {
      const vm = await Vm.start(world, { vda: { size: "64M" } });
      await vm.write("vda", "write -P 1 0 1M", "write -P 2 31M 1M");
      await vm.take();
      await shrinkAndGrow(vm, false, []);
      await vm.write("vda", "write -P 4 31M 64k", "write -P 4 33M 64k");
      const point = await vm.take();
      expect([levels(point), diskOf(point).dirtyBytes]).toEqual([{ vda: "incremental" }, 2 * GRANULE]);
      await vm.expectTidy();
      await vm.expectRestores();
    });
  });

  test("D5: another program's checkpoint is left as it is, and misleads nothing", async () => {
    const vm = await Vm.start(world, { vda: { size: "32M" } });
    await vm.write("vda", "write -P 1 0 1M");
    await vm.take();
    await vm.write("vda", "write -P 2 1M 64k");
    await world.lab.virsh("checkpoint-create-as", vm.name, "somebody-elses");
    await vm.write("vda", "write -P 3 2M 64k");
    const next = await vm.take();
    expect([levels(next), diskOf(next).dirtyBytes]).toEqual([{ vda: "incremental" }, 2 * GRANULE]);
    await vm.write("vda", "write -P 4 3M 64k");
    const last = await vm.take();
    expect([levels(last), diskOf(last).dirtyBytes]).toEqual([{ vda: "incremental" }, GRANULE]);
    expect(await vm.checkpoints()).toContain("somebody-elses");
    await vm.expectTidy(2);
    await vm.expectRestores();
  });

  test("A37: two repositories of one machine do not disturb each other", async () => {
    const other = await world.fileRepo("second");
    const vm = await Vm.start(world, { vda: { size: "32M" } });
    await vm.write("vda", "write -P 1 0 1M");
    await vm.take();
    await vm.write("vda", "write -P 2 1M 64k");
    const first = await vm.take({ repo: other });
    await vm.write("vda", "write -P 3 2M 64k");
    const here = await vm.take();
    await vm.write("vda", "write -z 0 64k");
    const there = await vm.take({ repo: other });
    expect([first, here, there].map((point) => [levels(point)["vda"], diskOf(point).dirtyBytes])).toEqual([
      ["full", expect.any(Number)],
      ["incremental", 2 * GRANULE],
      ["incremental", 2 * GRANULE],
    ]);
    await vm.expectTidy(2);
    await vm.expectRestores();
  });

  test("A18: auto after everything was forgotten, and an incremental with nothing to stand on, are fulls that say so and upload nothing known", async () => {
    const vm = await Vm.start(world, { vda: { size: "32M" } });
    await vm.write("vda", "write -P 1 0 1M");
    const first = await vm.take({ args: ["--level", "incremental"] });
    expect([levels(first), diskOf(first).reason]).toEqual([{ vda: "full" }, expect.stringContaining("no earlier point")]);
    await vm.write("vda", "write -P 2 1M 64k");
    const second = await vm.take();
    expect(levels(second)).toEqual({ vda: "incremental" });
    await world.json("forget", ["--point", first.backup.point, second.backup.point]);
    const listed = (await world.points()).map(({ id }) => id);
    expect(listed).not.toContain(second.backup.point);
    const third = await vm.take();
    expect(levels(third)).toEqual({ vda: "full" });
    await vm.write("vda", "write -P 3 2M 64k");
    const fourth = await vm.take();
    expect(levels(fourth)).toEqual({ vda: "incremental" });
    await vm.expectTidy();
    await vm.expectRestores([third, fourth]);
    await world.expectClean();
  });
});

/** Halves a disk of 64 MiB and gives it its size again. @param lost whether it is expected to lose data by it */
async function resizeLive(vm: Vm, lost: boolean): Promise<void> {
  for (const size of ["32M", "64M"]) await vm.world.lab.virsh("blockresize", vm.name, vm.path("vda"), size);
  if (lost) await vm.write("vda", "read -P 0 40M 1M");
}

async function resizeOff(vm: Vm, lost: boolean, args: readonly string[]): Promise<void> {
  await vm.domain.destroy();
  const resize = async (...more: readonly string[]): Promise<unknown> =>
    await run("qemu-img", ["resize", "-q", "-f", "qcow2", ...more.slice(0, -1), vm.path("vda"), more.at(-1) ?? ""]);
  await resize("--shrink", "32M");
  await resize(...args, "64M");
  if (lost) await vm.write("vda", "read -P 0 40M 1M");
}
