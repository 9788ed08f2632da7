import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { parseKeyFile, prune, type PruneReport, Repository } from "../../src/repository/index.ts";
import { skipWithout } from "../lab/index.ts";
import { aged, inHours } from "../repository/prune/aged.ts";
import { diskOf, levels, type Taken, Vm } from "./vm.ts";
import { MiB, World } from "./world.ts";

const GRANULE = 65_536;
const { signal } = new AbortController();

describe.skipIf(skipWithout("host"))("packs of which little is needed", () => {
  let world: World;
  beforeAll(async () => (world = await World.start("host")));
  afterAll(async () => world?.stop());

  /** A prune to which everything there is is old. */
  async function pruneLater(hours: number): Promise<PruneReport> {
    const { dir, keyFile } = world.repo;
    const store = new FsObjectStore(dir);
    try {
      const key = parseKeyFile(readFileSync(keyFile, "utf8"));
      return await prune(await Repository.open({ store: inHours(aged(store, 40), hours), key }), { signal });
    } finally {
      await store.close();
    }
  }

  const forget = async ({ backup }: Taken): Promise<void> => void (await world.json("forget", ["--point", backup.point]));

  test("an incremental by bitmap stores what is needed of them again; what the guest wrote is all that counts as changed", async () => {
    const vm = await Vm.start(world, { vda: { size: "64M" }, vdb: { size: "16M" } });
    // No granule like another.
    const write = async (megabytes: number): Promise<void> => {
      const path = world.output("data");
      writeFileSync(path, randomBytes(megabytes * MiB));
      await vm.write("vda", `write -s ${path} 0 ${megabytes}M`);
    };
    await write(40);
    await vm.write("vdb", "write -P 7 0 1M");
    const full = await vm.take();
    await write(26);
    const rewritten = await vm.take();
    expect(levels(rewritten)).toEqual({ vda: "incremental", vdb: "incremental" });
    await forget(full);
    vm.taken.splice(0, 1);
    const report = await pruneLater(0);
    expect(report).toMatchObject({ unclear: [], removed: { points: [full.backup.point] } });
    // The first 30 MiB of the disk are a pack, of which the last four are needed still.
    expect(report.sparse.needless).toBeGreaterThan(25 * MiB);
    await vm.write("vda", "write -P 250 1M 64k");
    const point = await vm.take();
    expect(levels(point)).toEqual({ vda: "incremental", vdb: "incremental" });
    expect(diskOf(point)).toMatchObject({ dirtyBytes: GRANULE, zeroBytes: 0, newBytes: GRANULE });
    expect(diskOf(point).compactedBytes).toBeGreaterThan(2 * MiB);
    expect(diskOf(point).compactedBytes).toBeLessThanOrEqual(4 * MiB);
    // What lay in the same pack, all alike.
    expect(diskOf(point, "vdb")).toMatchObject({ dirtyBytes: 0, newBytes: 0, compactedBytes: GRANULE });
    await vm.expectTidy();
    await vm.expectRestores();
    await forget(rewritten);
    vm.taken.splice(0, 1);
    await pruneLater(31);
    const freed = await pruneLater(62);
    expect(freed.removed.bytes).toBeGreaterThan(29 * MiB);
    await vm.write("vda", "write -P 251 2M 64k");
    expect(diskOf(await vm.take())).toMatchObject({ level: "incremental", dirtyBytes: GRANULE, compactedBytes: 0 });
    await vm.expectRestores();
    await world.expectClean();
  });
});
