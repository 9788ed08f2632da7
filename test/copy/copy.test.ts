import { randomBytes } from "node:crypto";

import { describe, expect, test } from "vitest";

import { copyPoints, type CopyReport, type CopyRequest } from "../../src/copy/index.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { CountingObjectStore, FaultyObjectStore, type ObjectStore } from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { checkRepository, Codec, offerHints, type PointRecord, readCapture, Repository } from "../../src/repository/index.ts";
import { firstOutOfTime } from "../../src/retention/index.ts";
import { newRepository, restore, take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { pointsAt } from "../support/dated-points.ts";

const MiB = 1024 * 1024;
const { signal } = new AbortController();
const SIZE = 24 * MiB + 4096;

/** A machine's points, and what its disk was at each of them. */
class History {
  readonly repository: Repository;
  readonly vm: string;
  readonly disk = new MemoryDisk("vda", SIZE);
  readonly states: Buffer[] = [];
  readonly points: PointRecord[] = [];

  constructor(repository: Repository, vm = "web") {
    this.repository = repository;
    this.vm = vm;
    this.disk.write(0, randomBytes(6 * MiB));
  }

  /** Writes three granules and empties one, and takes a point. */
  async go(times = 1): Promise<void> {
    for (let i = 0; i < times; i++) {
      const step = this.states.length;
      this.disk.write((8 + step) * MiB, randomBytes(3 * 65_536));
      this.disk.write(step * 65_536, Buffer.alloc(65_536));
      this.points.push(
        await take(this.repository, [this.disk], { vm: this.vm, captures: { "domain.xml": Buffer.from(`<n>${step}</n>`) } }),
      );
      this.states.push(Buffer.from(this.disk.bytes));
      this.disk.checkpoint();
    }
  }
}

async function encrypted(store: ObjectStore = new MemoryObjectStore()): Promise<Repository> {
  return await newRepository(store, randomBytes(32));
}

async function copyAll(from: Repository, to: Repository, more: Partial<CopyRequest> = {}): Promise<CopyReport> {
  return await copyPoints({ from, to, wanted: "all", codec: Codec.lz4, signal, log: silentLogger, ...more });
}

async function pointsOf(repository: Repository, vm = "web"): Promise<readonly PointRecord[]> {
  return (await repository.catalog.list({ vm })).points;
}

async function expectSame(history: History, to: Repository): Promise<void> {
  const copies = await pointsOf(to, history.vm);
  expect(copies.map(({ time }) => time)).toEqual(history.points.map(({ time }) => time));
  for (const [i, copy] of copies.entries())
    expect((await restore(to, copy, "vda")).equals(history.states[i] as Buffer), `point ${i}`).toBe(true);
  expect((await checkRepository(to, { signal })).findings).toEqual([]);
}

describe("a copy of points", () => {
  test("is what they are, under other keys, and brings of each only what differs", async () => {
    const history = new History(await encrypted());
    await history.go(4);
    const to = await newRepository(new MemoryObjectStore(), null);
    const { copied, passedOver, failed } = await copyAll(history.repository, to);
    expect([copied.length, passedOver, failed]).toEqual([4, [], []]);
    await expectSame(history, to);
    expect(copied[0]?.readBytes).toBeGreaterThan(6 * MiB);
    // Three granules that were written, and one for the doubt whether the base is what it was.
    for (const { readBytes } of copied.slice(1)) expect(readBytes).toBe(3 * 65_536);
    const copies = await pointsOf(to);
    for (const [i, { vm, level, consistency, tool, captures, origin, disks }] of copies.entries()) {
      const source = history.points[i] as PointRecord;
      expect({ vm, level, consistency, tool }).toEqual({
        vm: source.vm,
        level: source.level,
        consistency: source.consistency,
        tool: source.tool,
      });
      expect(origin).toEqual({ repository: history.repository.config.id.toString("hex"), point: source.id });
      expect(disks[0]).toMatchObject({ level: source.disks[0]?.level, checkpoint: null, base: copies[i - 1]?.id ?? null });
      expect((await readCapture(to, captures[0] as PointRecord["captures"][number])).toString()).toBe(`<n>${i}</n>`);
    }
  });

  test("brings nothing twice, and what is new alone", async () => {
    const history = new History(await encrypted());
    await history.go(2);
    const counting = new CountingObjectStore(new MemoryObjectStore());
    const to = await encrypted(counting);
    await copyAll(history.repository, to);
    const before = counting.counts.putIfAbsent;
    const again = await copyAll(history.repository, to);
    expect([again.copied, again.passedOver.map(({ why }) => why)]).toEqual([[], ["there", "there"]]);
    // `once`, by which a store shows that it knows conditions.
    expect(counting.counts.putIfAbsent - before).toBe(1);
    await history.go();
    const { copied } = await copyAll(history.repository, to);
    expect(copied.map(({ from, readBytes }) => [from, readBytes])).toEqual([[history.points[2]?.id, 3 * 65_536]]);
    await expectSame(history, to);
  });

  test("goes there and back, and knows what it meets", async () => {
    const history = new History(await encrypted());
    await history.go(3);
    const [there, back] = [await newRepository(new MemoryObjectStore(), null), await encrypted()];
    await copyAll(history.repository, there);
    await copyAll(there, back);
    await expectSame(history, back);
    expect((await pointsOf(back)).map(({ origin }) => origin?.point)).toEqual(history.points.map(({ id }) => id));
    // The originals, and what came by another way.
    for (const [from, to] of [
      [there, history.repository],
      [back, history.repository],
      [history.repository, back],
    ] as const) {
      expect((await copyAll(from, to)).copied).toEqual([]);
    }
    await history.go();
    expect((await copyAll(history.repository, back)).copied.length).toBe(1);
    await expectSame(history, back);
  });

  test.each(["opened", "disks-written", "packs-stored", "committed", "head-written"] as const)(
    "that ends at %s of any point is gone on with, and leaves no half of one",
    async (step) => {
      const history = new History(await encrypted());
      await history.go(3);
      const to = await encrypted();
      for (const stop of [1, 2]) {
        let reached = 0;
        const onStep = (name: string): void => {
          if (name === step && ++reached === stop) throw new Error("ended here");
        };
        await expect(copyAll(history.repository, to, { onStep })).rejects.toThrow("ended here");
        const there = await pointsOf(to);
        for (const [i, point] of there.entries()) expect((await restore(to, point, "vda")).equals(history.states[i] as Buffer)).toBe(true);
      }
      await copyAll(history.repository, to);
      await expectSame(history, to);
    },
  );

  test("beside another one puts no point there twice, nor behind a younger one", async () => {
    const history = new History(await encrypted());
    await history.go(4);
    for (const step of ["opened", "head-written"] as const) {
      const to = await encrypted();
      let other: Promise<unknown> | null = null;
      const onStep = async (name: string): Promise<void> => {
        if (name === step) await (other ??= copyAll(history.repository, to));
      };
      const code = step === "opened" ? "commit-lost" : "target-changed";
      await expect(copyAll(history.repository, to, { onStep })).rejects.toMatchObject({ code });
      await expectSame(history, to);
      expect((await copyAll(history.repository, to)).copied).toEqual([]);
    }
  });

  test("knows what the target has, also where its list comes from before", async () => {
    const history = new History(await encrypted());
    await history.go(2);
    const [memory, key] = [new MemoryObjectStore(), randomBytes(32)];
    const to = await newRepository(memory, key);
    await copyAll(history.repository, to);
    await history.go();
    await copyAll(history.repository, to);
    const late = new FaultyObjectStore(memory, []);
    late.list = async function* (...args) {
      for await (const stat of memory.list(...args)) if (!stat.key.startsWith("points/") || stat.key.endsWith("1")) yield stat;
    };
    const { copied, passedOver } = await copyAll(history.repository, await Repository.open({ store: late, key }));
    expect([copied, passedOver.map(({ why }) => why)]).toEqual([[], ["there", "there", "there"]]);
    await expectSame(history, to);
  });

  test("takes no point for another that had its id before the source was set back to an older copy", async () => {
    const memory = new MemoryObjectStore();
    const history = new History(await encrypted(memory));
    // Not told by the last granule that nobody wrote.
    history.disk.write(23 * MiB, randomBytes(65_536));
    await history.go();
    const before = new Map<string, Uint8Array>();
    for await (const { key } of memory.list("")) before.set(key, await memory.get(key));
    const old = Buffer.from(history.disk.bytes);
    await history.go();
    const to = await encrypted();
    await copyAll(history.repository, to);
    for await (const { key } of memory.list("")) if (!before.has(key)) await memory.delete(key);
    for (const [key, bytes] of before) await memory.put(key, bytes);
    history.disk.write(0, old);
    history.disk.write(4 * MiB, randomBytes(65_536));
    await history.go(2);
    const { copied, passedOver } = await copyAll(history.repository, to);
    expect([copied.length, passedOver.map(({ why }) => why)]).toEqual([2, ["there"]]);
    await expectSame(history, to);
  });

  test("finds in the target what other machines have", async () => {
    const history = new History(await encrypted());
    await history.go();
    const to = await encrypted();
    const twin = new History(to, "twin");
    history.disk.bytes.copy(twin.disk.bytes);
    twin.disk.write(0, history.disk.bytes);
    await twin.go();
    await offerHints(to, twin.points[0] as PointRecord, signal);
    await copyAll(history.repository, to);
    const stats = (await pointsOf(to))[0]?.disks[0]?.stats;
    expect(stats?.newBytes).toBeLessThan(8 * 65_536);
    expect(stats?.readBytes).toBeGreaterThan(5 * MiB);
    await expectSame(history, to);
  });

  test("of named points and machines alone", async () => {
    const from = await encrypted();
    const [web, db] = [new History(from, "web"), new History(from, "db")];
    await web.go(3);
    await db.go(2);
    const to = await encrypted();
    const second = web.points[1]?.id ?? "";
    expect((await copyAll(from, to, { wanted: { points: [second] } })).copied.map((point) => point.from)).toEqual([second]);
    expect((await copyAll(from, to, { wanted: { vms: ["db"] } })).copied.length).toBe(2);
    await expectSame(db, to);
    // The first is older than what is there; behind it, it would end the machine's retention.
    const { copied, passedOver } = await copyAll(from, to);
    expect([copied.map((point) => point.from), passedOver.map(({ why }) => why).toSorted()]).toEqual([
      [web.points[2]?.id],
      ["older", "there", "there", "there"],
    ]);
    const timed = (await pointsOf(to)).map(({ seq, time }) => ({ sequence: seq, time: new Date(time) }));
    expect(firstOutOfTime(timed, new Date())).toBeNull();
    await expect(copyAll(from, to, { wanted: { points: ["0123456789ab-1"] } })).rejects.toMatchObject({ code: "point-unknown" });
    await expect(copyAll(from, to, { wanted: { vms: ["nobody"] } })).rejects.toMatchObject({ code: "no-points" });
    await expect(copyAll(from, from)).rejects.toMatchObject({ code: "same-repository" });
  });

  test("does not bring back what the target forgot, and stands on what it has", async () => {
    const history = new History(await encrypted());
    await history.go(3);
    const to = await encrypted();
    await copyAll(history.repository, to);
    const copies = await pointsOf(to);
    for (const { id } of copies.slice(1)) await to.catalog.forget(id);
    await history.go();
    const { copied } = await copyAll(history.repository, to);
    // Against the first: what the second, the third and the fourth wrote.
    expect(copied.map(({ from, readBytes }) => [from, readBytes])).toEqual([[history.points[3]?.id, 9 * 65_536]]);
    const left = await pointsOf(to);
    expect(left.map(({ time }) => time)).toEqual([history.points[0]?.time, history.points[3]?.time]);
    expect((await restore(to, left[1] as PointRecord, "vda")).equals(history.states[3] as Buffer)).toBe(true);
  });

  test("never goes behind younger points that the target made itself", async () => {
    const from = await encrypted();
    await pointsAt(from, "web", ["2026-01-01T00:00:00.000Z", "2026-03-01T00:00:00.000Z"]);
    const to = await encrypted();
    await pointsAt(to, "web", ["2026-02-01T00:00:00.000Z"]);
    const { copied, passedOver } = await copyAll(from, to);
    expect([copied.map(({ time }) => time), passedOver.map(({ why }) => why)]).toEqual([["2026-03-01T00:00:00.000Z"], ["older"]]);
  });

  test("leaves out a point that is damaged, says so, and copies the rest", async () => {
    const memory = new MemoryObjectStore();
    const history = new History(await encrypted(memory));
    await history.go(3);
    const { run } = history.points[1] as PointRecord;
    for await (const { key } of memory.list("packs/")) if (key.includes(run)) await memory.delete(key);
    const to = await encrypted();
    const { copied, failed } = await copyAll(history.repository, to);
    // The third shares with the second what that brought.
    expect([copied.map((point) => point.from), failed.map(({ id }) => id)]).toEqual([
      [history.points[0]?.id],
      [history.points[1]?.id, history.points[2]?.id],
    ]);
    expect(failed[0]?.message).toMatch(/cannot be read and was not copied/);
    expect((await checkRepository(to, { signal })).findings).toEqual([]);
  });

  test("says which points the source has lost, but for those that were copied before", async () => {
    const memory = new MemoryObjectStore();
    const history = new History(await encrypted(memory));
    const other = new History(history.repository, "other");
    await history.go(2);
    const before = await encrypted();
    await copyAll(history.repository, before);
    await history.go();
    await other.go();
    const [first, , last] = history.points.map(({ id }) => id);
    for (const id of [first, last]) await memory.delete(`points/${id?.slice(0, 12)}/000000000${id?.slice(13)}`);
    expect((await copyAll(history.repository, before)).failed.map(({ id }) => id)).toEqual([last]);
    const fresh = await encrypted();
    const { copied, failed } = await copyAll(history.repository, fresh);
    expect([copied.length, failed.map(({ id }) => id)]).toEqual([2, [first, last]]);
    expect(failed[0]?.message).toContain("is missing from");
    expect((await copyAll(history.repository, fresh, { wanted: { vms: ["other"] } })).failed).toEqual([]);
    expect((await copyAll(history.repository, fresh, { wanted: { vms: ["web"] } })).failed.length).toBe(2);
    for (const id of [first, last]) await history.repository.catalog.forget(id ?? "");
    expect((await copyAll(history.repository, fresh)).failed).toEqual([]);
  });

  test("goes on without a base that is lost in the target", async () => {
    const history = new History(await encrypted());
    await history.go();
    const memory = new MemoryObjectStore();
    const to = await encrypted(memory);
    await copyAll(history.repository, to);
    for await (const { key } of memory.list("packs/")) await memory.delete(key);
    await history.go();
    expect((await copyAll(history.repository, to)).copied.length).toBe(1);
    const copies = await pointsOf(to);
    expect((await restore(to, copies[1] as PointRecord, "vda")).equals(history.states[1] as Buffer)).toBe(true);
  });

  test("fails cleanly where the target does, and ends with its signal", async () => {
    const history = new History(await encrypted());
    await history.go(2);
    const memory = new MemoryObjectStore();
    const key = randomBytes(32);
    const good = await newRepository(memory, key);
    const full = new FaultyObjectStore(memory, [
      { operations: ["putIfAbsent"], key: /^packs/, fault: { kind: "error-before", code: "no-space" } },
    ]);
    await expect(copyAll(history.repository, await Repository.open({ store: full, key }))).rejects.toMatchObject({ code: "no-space" });
    expect(await pointsOf(good)).toEqual([]);
    const controller = new AbortController();
    const reason = new Error("enough");
    const ended = copyAll(history.repository, good, { signal: controller.signal, onStep: () => controller.abort(reason) });
    await expect(ended).rejects.toBe(reason);
    await copyAll(history.repository, good);
    await expectSame(history, good);
  });
});
