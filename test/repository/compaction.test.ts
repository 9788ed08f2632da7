import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { CountingObjectStore } from "../../src/objectstore/index.ts";
import { DocumentKind } from "../../src/repository/format/constants.ts";
import { sealDocument } from "../../src/repository/format/document.ts";
import { encodeSparse } from "../../src/repository/format/sparse.ts";
import { checkRepository, type PointRecord, Repository } from "../../src/repository/index.ts";
import { Aging, GRANULE } from "./aging.ts";
import { KEY, restore, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { packsNeeded } from "./packs-needed.ts";

const MiB = 2 ** 20;
const { signal } = new AbortController();

/** What a restore of the newest point takes: packs, and requests for parts of them. */
async function restoreCost(lab: Aging): Promise<{ readonly packs: number; readonly reads: number }> {
  const store = new CountingObjectStore(lab.store);
  const { point, bytes } = lab.points.at(-1)!;
  lab.store.reads.length = 0;
  expect((await restore(await Repository.open({ store, key: KEY }), point, "vda")).equals(bytes)).toBe(true);
  return { packs: new Set(lab.store.reads.filter((key) => key.startsWith("packs/"))).size, reads: store.counts.read };
}

/** A pack of 64 granules of which the newest point needs a quarter, and no other point anything; prune has said so. */
async function thin(tracks = true): Promise<{ readonly lab: Aging; readonly first: PointRecord; readonly packs: readonly string[] }> {
  const lab = await Aging.start(64);
  lab.tracks = tracks;
  const first = await lab.backup(0);
  const packs = await lab.store.keys("packs/");
  await lab.backup(48, "first");
  await lab.keepLast(1);
  const report = await lab.prune();
  expect(report.removed.points).toEqual([first.id]);
  expect(report.sparse.newest.packs).toBeGreaterThan(0);
  expect(report.sparse.needless).toBeGreaterThan(48 * GRANULE);
  expect(report.sparse.bytes - report.sparse.needless).toBe(report.sparse.newest.bytes);
  return { lab, first, packs };
}

describe("packs of which little is needed", () => {
  test("a disk that is written at random for ever: the store holds twice the disk and stays there; without, it grows", async () => {
    const [rounds, granules, changed, kept] = [48, 256, 20, 2];
    const without = await Aging.start(granules);
    for (let round = 0; round < rounds; round++) {
      await without.backup(changed);
      await without.keepLast(kept);
    }
    // As it is when only what nobody needs goes.
    for (let i = 0; i < 3; i++) await without.prune();
    const share = await without.storedShare();
    const lab = await Aging.start(granules);
    await lab.backup(0);
    const shares: number[] = [];
    let compacted = 0;
    for (let round = 0; round < rounds; round++) {
      const { stats } = (await lab.backup(changed)).disks[0]!;
      expect(stats.dirtyBytes).toBeLessThanOrEqual(changed * GRANULE);
      expect(stats.newBytes).toBeLessThanOrEqual(stats.dirtyBytes);
      compacted += stats.compactedBytes;
      await lab.keepLast(kept);
      await lab.prune();
      await lab.expectWhole();
      if (round % 16 === 15) expect((await checkRepository(lab.repository, { signal })).findings).toEqual([]);
      shares.push(await lab.storedShare());
    }
    // The first backup is a pack by itself, and goes first when two thirds of it are written over.
    const settled = shares.slice(rounds / 2);
    // And what had grown old without it, in two backups more.
    const before = await restoreCost(without);
    expect(before.packs).toBeGreaterThan(30);
    await without.backup(0);
    await without.keepLast(1);
    await without.prune();
    await without.prune();
    await without.prune();
    const after = await restoreCost(without);
    await without.expectWhole();
    process.stderr.write(
      `compaction: the store holds ${Math.max(...settled).toFixed(2)} times the disk, without ${share.toFixed(2)}, of that ${(await without.storedShare()).toFixed(2)} are left; stored again ${(compacted / MiB).toFixed(1)} MiB of ${((rounds * changed * GRANULE) / MiB).toFixed(0)}; a restore reads ${before.packs} packs in ${before.reads} requests, and then ${after.packs} in ${after.reads}\n`,
    );
    expect(share).toBeGreaterThan(2.8);
    expect(Math.max(...settled)).toBeLessThan(2.5);
    expect(compacted).toBeLessThan((rounds * changed * GRANULE) / 2);
    expect(after.packs).toBeLessThan(before.packs * 0.7);
    expect(after.reads).toBeLessThan(before.reads * 0.8);
    expect(await without.storedShare()).toBeLessThan(2);
  }, 600_000);

  test("the next backup does without it, and it goes when older points were forgotten and two prunes have looked", async () => {
    const { lab, packs } = await thin();
    const [one] = await lab.store.keys("sparse/");
    expect(one).toMatch(/^sparse\/[0-9a-f]{8}\/[0-9a-f]{12}$/);
    const point = await lab.backup(1, "first");
    expect(point.disks[0]).toMatchObject({
      level: "incremental",
      compactedTo: 0,
      stats: { dirtyBytes: GRANULE, newBytes: GRANULE, compactedBytes: 16 * GRANULE, readBytes: 17 * GRANULE },
    });
    const needed = (await lab.prune()).sparse;
    expect(needed.packs, "the older point still needs it").toBeGreaterThan(0);
    expect(needed.newest).toEqual({ packs: 0, bytes: 0 });
    expect(await lab.store.keys("sparse/"), "nobody is told of what only older points need").toEqual([]);
    await lab.keepLast(1);
    await lab.prune();
    expect((await lab.store.keys("packs/")).filter((key) => packs.includes(key))).toContain(packs[0]);
    await lab.prune();
    expect((await lab.store.keys("packs/")).filter((key) => packs.includes(key))).toEqual([]);
    expect(new Set((await lab.store.keys("packs/")).map((key) => key.slice(-32)))).toEqual(await packsNeeded(lab.repository));
    await lab.expectWhole();
    expect((await checkRepository(lab.repository, { signal })).findings).toEqual([]);
    expect((await lab.backup(1, "first")).disks[0]?.stats).toMatchObject({ compactedBytes: 0, readBytes: GRANULE });
  });

  test("a disk that is read whole each time does without it too, and says the same", async () => {
    const { lab, packs } = await thin(false);
    const point = await lab.backup(1, "first");
    expect(point.disks[0]).toMatchObject({ level: "full", stats: { newBytes: GRANULE, compactedBytes: 16 * GRANULE } });
    await lab.keepLast(1);
    for (let i = 0; i < 3; i++) await lab.prune();
    expect((await lab.store.keys("packs/")).filter((key) => packs.includes(key))).toEqual([]);
    await lab.expectWhole();
  });

  test("nothing comes of it in a dry run, or while something is unclear", async () => {
    const lab = await Aging.start(64);
    await lab.backup(0);
    const { point } = lab.points[0]!;
    await lab.backup(48, "first");
    const key = (await lab.store.keys("points/"))[0]!;
    const bytes = await lab.store.get(key);
    await lab.store.put(key, randomBytes(100));
    for (let i = 0; i < 3; i++) expect((await lab.prune()).unclear.map(({ id }) => id)).toEqual([point.id]);
    expect(await lab.store.keys("sparse/")).toEqual([]);
    await lab.store.put(key, bytes);
    await lab.keepLast(1);
    expect((await lab.prune({ dryRun: true })).sparse.newest.packs).toBeGreaterThan(0);
    expect(await lab.store.keys("sparse/")).toEqual([]);
    await lab.prune();
    expect(await lab.store.keys("sparse/")).toHaveLength(1);
  });

  test("a second machine that is like the first takes nothing over from it", async () => {
    const { lab, packs } = await thin();
    const record = (await lab.store.keys("sparse/"))[0]!.slice(-12);
    const disk = new MemoryDisk("sda", lab.disk.size);
    disk.write(0, lab.disk.bytes);
    const { point } = lab.points.at(-1)!;
    const { size, root } = point.disks[0]!;
    const other = await take(lab.repository, [disk], { vm: "other", similar: [{ size, root, vmId: record }] });
    expect(other.disks[0]?.stats).toMatchObject({ newBytes: 0, compactedBytes: 16 * GRANULE });
    expect((await readDisk(lab.repository, other, "sda")).equals(lab.disk.bytes)).toBe(true);
    await lab.repository.catalog.forget(point.id);
    for (let i = 0; i < 3; i++) await lab.prune();
    expect((await lab.store.keys("packs/")).filter((key) => packs.includes(key))).toEqual([]);
    expect((await readDisk(lab.repository, other, "sda")).equals(lab.disk.bytes)).toBe(true);
  });
});

describe("a record of sparse packs that is not as prune left it", () => {
  const seal = ({ domain, keys }: Repository, at: string, kind: DocumentKind = DocumentKind.sparse) => ({
    kind,
    key: keys.document,
    encrypted: keys.encrypted,
    at: at.replace("DOMAIN", domain),
  });
  const everything = async (lab: Aging): Promise<Buffer> =>
    encodeSparse(new Map([["vda", [...(await lab.store.keys("packs/")).map((key) => key.slice(-32)), "ff".repeat(16)]]]));

  test.each<readonly [string, (lab: Aging, at: string) => Promise<Uint8Array | null>]>([
    ["is lost", async () => null],
    ["is garbled", async () => randomBytes(200)],
    ["is empty", async () => Buffer.alloc(0)],
    ["is too long", async () => Buffer.alloc(2 * MiB)],
    ["is another document", async (lab, at) => sealDocument(await everything(lab), seal(lab.repository, at, DocumentKind.hints))],
    ["is another machine's", async (lab, at) => sealDocument(await everything(lab), seal(lab.repository, at.replace(/.$/, "x")))],
    ["is not what it should be inside", async (lab, at) => sealDocument(Buffer.from('{"disks":[{"disk":7}]}'), seal(lab.repository, at))],
  ])("%s: the backup goes on as without", async (_, spoil) => {
    const { lab } = await thin();
    const at = (await lab.store.keys("sparse/"))[0]!;
    const bytes = await spoil(lab, at);
    if (bytes === null) await lab.store.delete(at);
    else await lab.store.put(at, bytes);
    expect((await lab.backup(1, "first")).disks[0]).toMatchObject({
      level: "incremental",
      stats: { compactedBytes: 0, newBytes: GRANULE, readBytes: GRANULE },
    });
    await lab.expectWhole();
    // And prune puts it right.
    await lab.prune();
    expect((await lab.backup(1, "first")).disks[0]?.stats.compactedBytes).toBe(16 * GRANULE);
    await lab.expectWhole();
  });

  test("names every pack there is: all is stored again once, and nothing is lost", async () => {
    const { lab } = await thin();
    const at = (await lab.store.keys("sparse/"))[0]!;
    await lab.store.put(at, sealDocument(await everything(lab), seal(lab.repository, at)));
    expect((await lab.backup(1, "first")).disks[0]?.stats).toMatchObject({ dirtyBytes: GRANULE, compactedBytes: 63 * GRANULE });
    await lab.expectWhole();
    expect((await lab.backup(1, "first")).disks[0]?.stats.compactedBytes).toBe(0);
    await lab.expectWhole();
    expect((await checkRepository(lab.repository, { signal })).findings).toEqual([]);
  });

  test("names a pack that is lost: the backup stays incremental, and what is lost of the disk is there again", async () => {
    const { lab, packs } = await thin();
    await lab.store.delete(packs[0]!);
    const { point, bytes } = (await lab.backup(1, "first"), lab.points.at(-1)!);
    expect(point.disks[0]).toMatchObject({ level: "incremental", stats: { compactedBytes: 16 * GRANULE } });
    expect((await readDisk(lab.repository, point)).equals(bytes)).toBe(true);
  });
});

test("a run stores 256 MiB again at most where little changed, and the next goes on after it", { timeout: 300_000 }, async () => {
  const granules = 6000;
  const lab = await Aging.start(granules, (place) => (place < 160 ? randomBytes(GRANULE) : named(place)));
  await lab.backup(0);
  await lab.backup(160, "first");
  await lab.keepLast(1);
  await lab.prune();
  const first = await lab.backup(1, "first");
  expect(first.disks[0]).toMatchObject({ compactedTo: (160 + 4096) * GRANULE, stats: { compactedBytes: 256 * MiB, newBytes: GRANULE } });
  const second = await lab.backup(1, "first");
  expect(second.disks[0]).toMatchObject({ compactedTo: 0, stats: { compactedBytes: (granules - 160 - 4096) * GRANULE } });
  expect((await lab.backup(1, "first")).disks[0]?.stats.compactedBytes).toBe(0);
  await lab.expectWhole();
});

/** A granule that compresses well, and that no other is like. */
function named(place: number): Buffer {
  const granule = Buffer.alloc(GRANULE, 1);
  granule.writeUInt32LE(place);
  return granule;
}
