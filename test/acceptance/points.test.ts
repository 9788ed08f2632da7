import { cpSync, readdirSync, statSync } from "node:fs";
import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compareRaw, rawCopy, skipWithout } from "../lab/index.ts";
import type { BackupJson, RestoreJson } from "../support/thinstream.ts";
import { diskOf, expectRestore, levels, Vm } from "./vm.ts";
import { MiB, World } from "./world.ts";

const skipped = skipWithout("host");
const GRANULE = 65536;

describe.skipIf(skipped)("points of one machine", () => {
  let world: World;
  let vm: Vm;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "256M" } });
  });
  afterAll(async () => world?.stop());

  test("A3 A9 A22: a full is what qemu-img reads of the same disk, and leaves nothing", async () => {
    await vm.write("vda", "write -P 0xaa 0 1M", "write -P 0x17 100M 5M", "write -P 3 255M 1M");
    const full = await vm.take({ args: ["--level", "full"] });
    expect(levels(full)).toEqual({ vda: "full" });
    expect(full.backup.consistency).toBe("crash");
    await vm.expectRestores();
    await vm.expectTidy();
  });

  test("A23 D1: what was zeroed or discarded restores as zeros, and is counted as that", async () => {
    await vm.write("vda", "write -z -u 0 128k", "write -z 256k 64k", "discard 512k 64k", "write -P 0xcc 3M 64k", "discard 8M 2M");
    const point = await vm.take();
    expect(levels(point)).toEqual({ vda: "incremental" });
    // Long zeros are known without reading them, short ones are found by reading.
    expect(diskOf(point)).toMatchObject({ dirtyBytes: 37 * GRANULE, zeroBytes: 36 * GRANULE, readBytes: 5 * GRANULE });
    await vm.expectRestores([point]);
  });

  test("A23: one byte is one granule, 127k over a border two; rewritten-identical data is not stored again", async () => {
    await vm.write("vda", "write -P 9 20M 1");
    const one = await vm.take();
    expect(diskOf(one).dirtyBytes).toBe(GRANULE);
    await vm.write("vda", "write -P 8 30M 127k");
    const two = await vm.take();
    expect(diskOf(two).dirtyBytes).toBe(2 * GRANULE);
    await vm.write("vda", "write -P 0x17 100M 5M");
    const same = await vm.take();
    expect(diskOf(same)).toMatchObject({ dirtyBytes: 5 * MiB, newBytes: 0 });
    expect(diskOf(same).uploadedBytes).toBe(diskOf(same).mapBytes);
    await vm.expectRestores([one, two, same]);
  });

  test("A17 D10: a differential counts from the point it is told, makes no checkpoint, and stands between its neighbours", async () => {
    const since = vm.taken.at(-1)?.backup.point ?? "";
    await vm.write("vda", "write -P 5 40M 64k");
    const first = await vm.take({ args: ["--level", "differential", "--since", since] });
    await vm.write("vda", "write -P 6 50M 64k");
    const second = await vm.take({ args: ["--level", "differential", "--since", since] });
    expect([diskOf(first).dirtyBytes, diskOf(second).dirtyBytes]).toEqual([GRANULE, 2 * GRANULE]);
    expect([levels(first), levels(second)]).toEqual([{ vda: "differential" }, { vda: "differential" }]);
    const incremental = await vm.take();
    expect([levels(incremental), diskOf(incremental).dirtyBytes]).toEqual([{ vda: "incremental" }, 2 * GRANULE]);
    const copy = await vm.take({ args: ["--level", "copy"] });
    expect(levels(copy)).toEqual({ vda: "copy" });
    await vm.expectTidy();
    const ids = vm.taken.map(({ backup }) => backup.point);
    expect(new Set(ids).size).toBe(ids.length);
    await vm.expectRestores([first, second, incremental, copy]);
  });

  test("A20: an estimate and a threshold store nothing, change nothing and say what a backup would read", async () => {
    await vm.write("vda", "write -P 7 60M 1M");
    const before = await world.points();
    const [estimate] = (await world.json<BackupJson>("backup", vm.flags(["--estimate"]))).disks;
    expect(estimate?.dirtyBytes).toBe(MiB);
    const skipped2M = await world.json<BackupJson>("backup", vm.flags(["--threshold", "2M"]));
    expect(skipped2M.point).toBeNull();
    expect(await world.points()).toEqual(before);
    await vm.expectTidy();
    const taken = await vm.take({ args: ["--threshold", "1M"] });
    expect(diskOf(taken).dirtyBytes).toBe(MiB);
    await vm.expectRestores([taken]);
  });

  test("A10: every compression restores the same", async () => {
    for (const codec of ["lz4", "zstd", "none"]) {
      await vm.write("vda", "write -P 11 70M 1M", "write -P 0xa1 200M 3M", `write -P ${codec.length + 60} 210M 1M`);
      await vm.take({ args: ["--compression", codec, "--level", codec === "none" ? "full" : "auto"] });
    }
    const [lz4, zstd, none] = vm.taken.slice(-3).map((taken) => diskOf(taken));
    expect([lz4, zstd, none].map((disk) => disk?.level)).toEqual(["incremental", "incremental", "full"]);
    expect([lz4, zstd].every((disk) => (disk?.uploadedBytes ?? MiB) < MiB)).toBe(true);
    await vm.expectRestores(vm.taken.slice(-3));
  });

  test("A14: every point, in any order, shows exactly its own instant; the list is oldest first", async () => {
    const points = await world.points();
    expect(points.map(({ id }) => id)).toEqual(vm.taken.map(({ backup }) => backup.point));
    expect(points.map(({ time }) => time)).toEqual(points.map(({ time }) => time).toSorted());
    await vm.expectRestores(vm.taken.slice(0, 5).toReversed());
    await world.expectClean();
  });

  test("A7 A32 D6: a copy of the repository with other file times, and its key, is all that a restore needs", async () => {
    const dir = join(world.dir, "elsewhere");
    cpSync(world.repo.dir, dir, { recursive: true });
    const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    for (const [i, { parentPath, name }] of files.entries()) await utimes(join(parentPath, name), (i * 7919) % 1e9, (i * 7919) % 1e9);
    const copy = { ...world.repo, url: `file://${dir}`, dir, flags: ["--repo", `file://${dir}`, "--key-file", world.repo.keyFile] };
    expect((await world.points(copy)).map(({ id }) => id)).toEqual(vm.taken.map(({ backup }) => backup.point));
    for (const taken of vm.taken.slice(4, 6)) await expectRestore(world, { ...taken, repo: copy });
  });

  test("A16: qcow2 restored and defined beside the original, with its own identity; it starts", async () => {
    const last = vm.taken.at(-1)!;
    const name = `${vm.name}-copy`;
    const output = world.output();
    const args = [
      "--point",
      last.backup.point,
      "--output",
      output,
      "--format",
      "qcow2",
      "--define",
      "--connect",
      world.lab.uri,
      "--name",
      name,
    ];
    const { disks, domain } = await world.json<RestoreJson>("restore", args);
    expect(domain).toMatchObject({ name });
    expect(domain?.uuid).not.toBe(vm.domain.uuid);
    const [disk] = disks;
    expect(await compareRaw(await rawCopy(disk?.path ?? "", `${output}.raw`), last.references.get("vda")!)).toBeUndefined();
    expect(statSync(disk?.path ?? "").blocks * 512).toBeLessThan(statSync(vm.path()).blocks * 512 * 1.05 + MiB);
    const xml = await world.lab.virsh("dumpxml", "--inactive", name);
    expect(xml).toContain(disk?.path);
    expect(xml).not.toContain(vm.path());
    await world.lab.virsh("start", "--paused", name);
    await world.lab.virsh("destroy", name);
    const again = await world.run("restore", [...args.slice(0, 3), `${output}-b`, ...args.slice(4)]);
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining(`There is a domain ${name} already`)]);
    await world.lab.virsh("undefine", name);
    expect(world.hostLeftovers()).toEqual([]);
  });
});
