import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run, skipWithout } from "../lab/index.ts";
import type { BackupJson } from "../support/thinstream.ts";
import { diskOf, levels, Vm } from "./vm.ts";
import { MiB, World } from "./world.ts";

const skipped = skipWithout("host");
const KiB = 1024;
/** What QEMU answers at most of one context in one reply, and what it takes to have more than that. */
const REPLY = 131_072;
const STRIPES = REPLY / 2 + 8192;

/** A raw file of which every second 4 KiB are data, so that each is an extent of its own. */
function stripes(path: string, size: number): string {
  const file = openSync(path, "w");
  ftruncateSync(file, size);
  const data = Buffer.alloc(4 * KiB);
  for (let i = 0; i < STRIPES; i += 1) {
    data.writeUInt32LE(i + 1, 0);
    writeSync(file, data, 0, data.length, i * 8 * KiB);
  }
  closeSync(file);
  return path;
}

describe.skipIf(skipped)("more extents than one reply holds", () => {
  let world: World;
  beforeAll(async () => (world = await World.start("host")));
  afterAll(async () => world?.stop());

  test.each(["1G", "8G"])("A35 D3: a disk of %s with 4 KiB clusters: full and incremental are right", async (size) => {
    const vm = new Vm(world);
    const path = await vm.addDisk("vda", { size, clusterSize: "4k" });
    const bytes = Number.parseInt(size, 10) * 1024 * MiB;
    const raw = stripes(join(world.dir, `${size}.raw`), bytes);
    await run("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", "-S", "4k", "-o", "cluster_size=4k", raw, path]);
    rmSync(raw);
    const map = JSON.parse(await run("qemu-img", ["map", "--output=json", path])) as unknown[];
    expect(map.length).toBeGreaterThan(REPLY);
    await vm.define();
    await vm.domain.start();
    const full = await world.json<BackupJson>("backup", vm.flags());
    expect(full.level).toBe("full");
    // Behind the extents of the first reply, where a careless reader of two contexts loses its place.
    await vm.write("vda", "write -P 0x5a 560M 64k", "write -P 0x5b 100M 64k", "write -z 200M 64k");
    if (size === "8G") await vm.write("vda", "write -P 0x5c 7000M 64k");
    const incremental = await vm.take();
    expect(levels(incremental)).toEqual({ vda: "incremental" });
    expect(diskOf(incremental).dirtyBytes).toBe((size === "8G" ? 4 : 3) * 64 * KiB);
    await vm.expectTidy();
    // All but its few changes is what the full read.
    await vm.expectRestores([incremental]);
    await vm.domain.destroy();
    rmSync(path);
  });
});
