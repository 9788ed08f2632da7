import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { FaultyObjectStore } from "../../src/objectstore/index.ts";
import { checkListed, checkRepository, type PointRecord, Repository } from "../../src/repository/index.ts";
import { type DamageRecord, decodeDamage, encodeDamage } from "../../src/repository/format/damage.ts";
import { FormatError } from "../../src/repository/format/errors.ts";
import { KEY, newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { TimedStore } from "./prune/lab.ts";

const KiB = 1024;
const GRANULE = 64 * KiB;
const { signal } = new AbortController();

/** A machine of two disks with three points; what was first is still most of the newest. */
async function build(): Promise<{ store: TimedStore; repository: Repository; disks: MemoryDisk[]; points: PointRecord[] }> {
  const store = new TimedStore();
  const repository = await newRepository(store);
  const disks = ["vda", "vdb"].map((name) => new MemoryDisk(name, 64 * GRANULE));
  for (const disk of disks) disk.write(0, randomBytes(40 * GRANULE));
  const points: PointRecord[] = [];
  for (let i = 0; i < 3; i++) {
    points.push(await take(repository, disks));
    for (const disk of disks) {
      disk.checkpoint();
      disk.write(i * GRANULE, randomBytes(GRANULE));
    }
  }
  return { store, repository, disks, points };
}

/** Keys of the packs that a run wrote: data first, the map last. */
async function packsOf({ store, repository }: { store: TimedStore; repository: Repository }, { run }: PointRecord): Promise<string[]> {
  return (await store.keys(`packs/${repository.domain}/`)).filter((key) => key.includes(`/${run}`));
}

async function expectHealed(lab: Awaited<ReturnType<typeof build>>): Promise<PointRecord> {
  const { repository, disks } = lab;
  const healed = await take(repository, disks);
  for (const disk of disks) {
    expect((await readDisk(repository, healed, disk.name)).equals(disk.bytes)).toBe(true);
    disk.checkpoint();
  }
  const { findings } = await checkRepository(repository, { signal });
  expect(findings.flatMap(({ points }) => points)).not.toContain(healed.id);
  expect(findings.length, "what older points lost stays lost").toBeGreaterThan(0);
  // The one after stands on it as on any other.
  disks[0]?.write(50 * GRANULE, randomBytes(GRANULE));
  const next = await take(repository, disks);
  expect(next.disks.map(({ level, stats }) => [level, stats.readBytes])).toEqual([
    ["incremental", GRANULE],
    ["incremental", 0],
  ]);
  for (const disk of disks) expect((await readDisk(repository, next, disk.name)).equals(disk.bytes)).toBe(true);
  return healed;
}

describe("what a check found damaged, the next backup stores again", () => {
  test.each(["lists", "reading"] as const)("also where the newest point was forgotten and is held; found by %s", async (how) => {
    const lab = await build();
    const { store, repository, disks, points } = lab;
    // What changed since the one before stays known as such: that is what the next backup stands on.
    const newest = await take(repository, disks);
    const [first = ""] = await packsOf(lab, points[0]!);
    await repository.catalog.forget(newest.id);
    await repository.catalog.hold(newest.id);
    await store.delete(first);
    const report = how === "lists" ? await checkListed(repository, { signal, sample: 0 }) : await checkRepository(repository, { signal });
    expect(report.noted).toBe(true);
    const healed = await take(repository, disks);
    for (const disk of disks) expect((await readDisk(repository, healed, disk.name)).equals(disk.bytes)).toBe(true);
  });

  test("a missing pack, found by lists: only what is lost is stored, and only its disks are read whole", async () => {
    const lab = await build();
    const [first = "", ...others] = await packsOf(lab, lab.points[0] as PointRecord);
    expect(others.length).toBeGreaterThan(0);
    await lab.store.delete(first);
    const report = await checkListed(lab.repository, { signal, sample: 0 });
    expect(report).toMatchObject({ noted: true, findings: [{ what: first }] });
    const touched = new Set(report.findings[0]?.places.map(({ name }) => name));
    const healed = await expectHealed(lab);
    for (const { name, level, reason, stats } of healed.disks) {
      if (touched.has(name))
        expect([level, reason]).toEqual(["full", expect.stringMatching(/is damaged in the repository, and is stored again/)]);
      else expect(level).toBe("incremental");
      expect(stats.newBytes).toBeLessThanOrEqual(41 * GRANULE);
    }
  });

  test("one flipped bit, found by reading: a granule is stored again, and its neighbours in the pack are not", async () => {
    const lab = await build();
    const [first = ""] = await packsOf(lab, lab.points[0] as PointRecord);
    const bytes = Buffer.from(await lab.store.get(first));
    bytes[5 * GRANULE] = (bytes[5 * GRANULE] ?? 0) ^ 4;
    await lab.store.put(first, bytes);
    expect((await checkListed(lab.repository, { signal, sample: 0 })).findings).toEqual([]);
    expect(await checkRepository(lab.repository, { signal })).toMatchObject({ noted: true, findings: [{ what: first }] });
    const healed = await expectHealed(lab);
    // The one that was lost, and the one that had changed, on each disk.
    expect(healed.disks.reduce((sum, { stats }) => sum + stats.newBytes, 0)).toBeLessThanOrEqual(3 * GRANULE);
  });

  test("a lost part of the map", async () => {
    const lab = await build();
    const map = (await packsOf(lab, lab.points[0] as PointRecord)).at(-1) ?? "";
    await lab.store.delete(map);
    await checkListed(lab.repository, { signal, sample: 0 });
    await expectHealed(lab);
  });

  test("without a check, or without the right to write one down, a backup knows nothing of it; the report says so", async () => {
    const lab = await build();
    const [first = ""] = await packsOf(lab, lab.points[0] as PointRecord);
    await lab.store.delete(first);
    const reader = new FaultyObjectStore(lab.store, [{ operations: ["put"], fault: { kind: "error-before", code: "access-denied" } }]);
    const report = await checkListed(await Repository.open({ store: reader, key: KEY }), { signal, sample: 0 });
    expect(report.noted).toBe(false);
    expect((await take(lab.repository, lab.disks)).disks.map(({ level }) => level)).toEqual(["incremental", "incremental"]);
    await lab.store.put(`damage/${lab.repository.domain}`, randomBytes(80));
    for (const disk of lab.disks) disk.checkpoint();
    expect((await take(lab.repository, lab.disks)).disks.map(({ level }) => level)).toEqual(["incremental", "incremental"]);
    await checkListed(lab.repository, { signal, sample: 0 });
    for (const disk of lab.disks) disk.checkpoint();
    await expectHealed(lab);
  });
});

const hex = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString("hex"));
const setOf = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<Set<T> | null> =>
  fc.option(fc.array(one, { maxLength: 5 }).map((all) => new Set(all)));
const record: fc.Arbitrary<DamageRecord> = fc.record({
  packs: fc.option(fc.array(fc.tuple(hex, setOf(fc.nat())), { maxLength: 5 }).map((all) => new Map(all))),
  points: fc.array(fc.tuple(fc.string(), setOf(fc.string())), { maxLength: 5 }).map((all) => new Map(all)),
});

test("a record of damage reads as it was written, and anything else is refused", () => {
  fc.assert(
    fc.property(record, (one) => {
      expect(decodeDamage(encodeDamage(one))).toEqual(one);
    }),
  );
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
      try {
        decodeDamage(Buffer.from(text));
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(FormatError);
      }
    }),
  );
});
