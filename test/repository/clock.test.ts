import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";

import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { BackupSession, Codec } from "../../src/repository/index.ts";
import { newRepository, restore, take } from "./harness.ts";
import { MemoryDisk } from "./memory-disk.ts";

const MiB = 1024 * 1024;
const HOUR = 3600 * 1000;
const signal = new AbortController().signal;

/** A store whose clock is set by hand, as one is that jumps. */
class JumpingStore extends MemoryObjectStore {
  hours = 0;

  override async now(): Promise<Date> {
    return new Date(Date.UTC(2026, 0, 1) + this.hours * HOUR);
  }
}

class SleepingStore extends JumpingStore {
  override async putIfAbsent(...args: Parameters<MemoryObjectStore["putIfAbsent"]>): Promise<void> {
    // Between the last look at the time and the request.
    if (args[0].startsWith("points/")) this.hours += this.sleeps;
    await super.putIfAbsent(...args);
  }

  sleeps = 0;
}

class JumpingDisk extends MemoryDisk {
  onRead: () => void = () => undefined;

  override async read(...args: Parameters<MemoryDisk["read"]>): Promise<void> {
    this.onRead();
    await super.read(...args);
  }
}

test("a point of the future: the next backups stand on it, are newer by number, and all restore", async () => {
  const store = new JumpingStore();
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", 4 * MiB);
  const contents: Buffer[] = [];
  for (const [i, hours] of [10_000, 0, 1, -5000, 20_000, 2].entries()) {
    store.hours = hours;
    disk.write(i * 128 * 1024, randomBytes(64 * 1024));
    const point = await take(repository, [disk]);
    disk.trackChanges = true;
    contents.push(Buffer.from(disk.bytes));
    expect(point).toMatchObject({ seq: i + 1, time: (await store.now()).toISOString(), warnings: [] });
    expect(point.disks[0]?.level).toBe(i === 0 ? "full" : "incremental");
  }
  const { points } = await repository.catalog.list({ vm: "vm" });
  expect(points.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
  expect((await repository.catalog.lineage("vm", { depth: 9, signal })).points.map(({ seq }) => seq)).toEqual([6, 5, 4, 3, 2, 1]);
  for (const [i, point] of points.entries()) expect((await restore(repository, point, "vda")).equals(contents[i]!)).toBe(true);
});

test("a clock that jumps ahead by more than a day during a backup: it does not commit, the next one does", async () => {
  const store = new JumpingStore();
  const repository = await newRepository(store);
  const disk = new JumpingDisk("vda", MiB);
  disk.write(0, randomBytes(64 * 1024));
  disk.onRead = () => void (store.hours += 25);
  await expect(take(repository, [disk])).rejects.toMatchObject({ code: "run-too-old" });
  expect((await repository.catalog.list()).points).toEqual([]);
  // Back by any amount is no reason: what the bound guards against is a run that was slow.
  disk.onRead = () => void (store.hours -= 1000);
  const point = await take(repository, [disk]);
  expect((await restore(repository, point, "vda")).equals(disk.bytes)).toBe(true);
});

test("whatever the clock did, a machine's points are listed in the order they were taken, and machines among each other by time", async () => {
  const times = fc.array(fc.tuple(fc.nat(3), fc.integer({ min: -50, max: 50 })), { minLength: 1, maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(times, async (taken) => {
      const store = new JumpingStore();
      const repository = await newRepository(store);
      const committed: { readonly id: string; readonly vm: string; readonly latest: string }[] = [];
      for (const [vm, hours] of taken) {
        store.hours = hours;
        const { id, time, ...point } = await take(repository, [new MemoryDisk("vda", 65_536)], { vm: `vm${vm}` });
        const before = committed.findLast((one) => one.vm === point.vm.name)?.latest ?? "";
        committed.push({ id, vm: point.vm.name, latest: time > before ? time : before });
      }
      const { points } = await repository.catalog.list();
      expect(points.length).toBe(committed.length);
      for (const vm of new Set(committed.map((one) => one.vm))) {
        const ids = committed.filter((one) => one.vm === vm).map(({ id }) => id);
        expect(points.filter((point) => point.vm.name === vm).map(({ id }) => id)).toEqual(ids);
      }
      // No point stands before one that is older than anything its own machine had at that time.
      const latest = points.map(({ id }) => committed.find((one) => one.id === id)?.latest ?? "");
      expect(latest).toEqual(latest.toSorted());
    }),
    { numRuns: process.env["SOAK"] === "1" ? 500 : 25 },
  );
});

test("the age of a run counts from before it looked up what it stands on: one that was held up after that does not commit", async () => {
  const store = new JumpingStore();
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", MiB);
  disk.write(0, randomBytes(64 * 1024));
  const lineage = await repository.catalog.lineage("vm", { depth: 1, signal });
  store.hours += 25;
  const session = new BackupSession(repository, { vm: { name: "vm", uuid: null }, codec: Codec.lz4, signal, lineage });
  try {
    const facts = { level: "full", consistency: "crash", warnings: [], tool: { name: "test", version: "0" } } as const;
    await expect(session.commit(facts)).rejects.toMatchObject({ code: "run-too-old" });
  } finally {
    await session.close();
  }
  expect((await repository.catalog.list()).points).toEqual([]);
});

test("nothing new stands on a point that was forgotten, though it still restores", async () => {
  const repository = await newRepository();
  const disk = new MemoryDisk("vda", MiB);
  disk.write(0, randomBytes(64 * 1024));
  const { id } = await take(repository, [disk]);
  expect(await repository.catalog.livePoint(id, signal)).toMatchObject({ id });
  await repository.catalog.forget(id, signal);
  await expect(repository.catalog.livePoint(id, signal)).rejects.toMatchObject({
    code: "point-unknown",
    message: expect.stringMatching(/was forgotten/),
  });
  expect(await repository.catalog.point(id, signal)).toMatchObject({ id });
});

test("a machine that sleeps right before the commit takes its point back, and the next backup is right", async () => {
  const store = new SleepingStore();
  const repository = await newRepository(store);
  const disk = new MemoryDisk("vda", MiB);
  disk.write(0, randomBytes(64 * 1024));
  const first = await take(repository, [disk]);
  disk.checkpoint();
  disk.write(128 * 1024, randomBytes(64 * 1024));
  store.sleeps = 40;
  await expect(take(repository, [disk])).rejects.toMatchObject({ code: "run-too-old" });
  store.sleeps = 0.2;
  const next = await take(repository, [disk]);
  expect([next.seq, (await repository.catalog.list()).points.map(({ id }) => id)]).toEqual([3, [first.id, next.id]]);
  expect((await restore(repository, next, "vda")).equals(disk.bytes)).toBe(true);
});
