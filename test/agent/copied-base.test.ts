import { expect, test } from "vitest";

import { findBases } from "../../src/agent/find-bases.ts";
import { type PointRecord, vmId } from "../../src/repository/index.ts";
import { newRepository, take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";

const { signal } = new AbortController();

test("no backup stands on the checkpoint of a point that was copied, and one before it still counts", async () => {
  const repository = await newRepository();
  const id = vmId(repository.keys, "vm");
  const made = await take(repository, [new MemoryDisk("vda", 65_536)]);
  const at = async (seq: number, checkpoint: string | null, more: Partial<PointRecord>): Promise<PointRecord> => {
    const disks = made.disks.map((disk) => ({ ...disk, checkpoint, base: null }));
    const point = { ...made, seq, id: `${id}-${seq}`, parent: `${id}-${seq - 1}`, disks, ...more };
    await repository.catalog.commit(id, point);
    return point;
  };
  const own = await at(2, "ts-own", {});
  const origin = { repository: "00".repeat(16), point: own.id };
  // What no copy writes: it would name a checkpoint that the machine may have, of another repository's runs.
  const copied = await at(3, "ts-theirs", { origin });
  expect((await findBases(repository, { from: copied, disks: [] }, signal)).facts).toMatchObject([{ point: own.id, checkpoint: "ts-own" }]);
  const first = await at(4, "ts-theirs", { origin, parent: null });
  expect((await findBases(repository, { from: first, disks: ["vda"] }, signal)).facts).toEqual([]);
});
