import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { FaultyObjectStore, StoreError } from "../../../src/objectstore/index.ts";
import { checkListed, checkRepository, prune, Repository } from "../../../src/repository/index.ts";
import { headAt, pointAt } from "../../../src/repository/layout.ts";
import { KEY, take } from "../harness.ts";
import { readDisk } from "../light-reader.ts";
import { packsNeeded } from "../packs-needed.ts";
import { GRACE_HOURS, KiB, PruneLab } from "./lab.ts";

const signal = new AbortController().signal;

describe("prune", () => {
  test("a forgotten point goes after 30 hours, what it alone needed after 60, and the others restore bit for bit all the while", async () => {
    const lab = await PruneLab.start();
    const points = [];
    for (let i = 0; i < 6; i++) points.push(await lab.backup());
    const all = (await lab.packs()).length;
    expect(await lab.prune(100)).toMatchObject({ removed: { points: [], packs: 0 }, waiting: [], unclear: [] });
    const [first, , third] = points;
    await lab.forget(first!, third!);
    expect(await lab.prune(GRACE_HOURS - 1)).toMatchObject({ points: { counted: 6, forgotten: 2 }, removed: { points: [], packs: 0 } });
    const marked = await lab.prune(1);
    expect(marked).toMatchObject({ points: { counted: 4, forgotten: 0 }, removed: { points: [first!.id, third!.id], packs: 0 } });
    expect(marked.waiting).toEqual([
      expect.objectContaining({ why: "marked", until: new Date(marked.at.getTime() + GRACE_HOURS * 3_600_000) }),
    ]);
    expect((await lab.packs()).length).toBe(all);
    expect(await lab.prune(GRACE_HOURS - 1)).toMatchObject({ removed: { packs: 0 } });
    const swept = await lab.prune(1);
    expect(swept.removed.packs).toBe(marked.waiting[0]!.packs);
    expect(swept.removed).toMatchObject({ points: [], bytes: marked.waiting[0]!.bytes });
    expect(new Set(await lab.packs())).toEqual(await packsNeeded(lab.repository));
    expect((await lab.restorable()).length).toBe(4);
    expect((await checkRepository(lab.repository, { signal })).findings).toEqual([]);
  });

  test("what a backup that died has left goes, and what one under way has stored stays", async () => {
    const lab = await PruneLab.start();
    await lab.backup();
    const before = new Set(await lab.packs());
    lab.disk.write(0, randomBytes(1024 * KiB));
    lab.store.onChange = (key) => {
      if (key.startsWith("points/")) throw new StoreError("failed", "the writer dies");
    };
    await expect(take(lab.repository, [lab.disk])).rejects.toThrow("the writer dies");
    lab.store.onChange = () => undefined;
    const orphans = (await lab.packs()).filter((pack) => !before.has(pack));
    expect(orphans.length).toBeGreaterThan(0);
    const young = await lab.prune(GRACE_HOURS - 1);
    expect(young).toMatchObject({ removed: { packs: 0 }, waiting: [{ why: "young", packs: orphans.length }] });
    expect(await lab.prune(1)).toMatchObject({ removed: { packs: 0 }, waiting: [{ why: "marked", packs: orphans.length }] });
    expect(await lab.prune(GRACE_HOURS)).toMatchObject({ removed: { packs: orphans.length }, waiting: [] });
    expect(new Set(await lab.packs())).toEqual(before);
  });

  test("reads no data, and of maps only what changed since the last time", async () => {
    const lab = await PruneLab.start();
    for (let i = 0; i < 4; i++) await lab.backup();
    await lab.prune(1);
    const usages = await lab.store.keys("usage/");
    expect(usages).toHaveLength(4);
    lab.store.reads.length = 0;
    await lab.prune(40);
    expect(lab.store.reads.filter((key) => key.startsWith("packs/"))).toEqual([]);
    await lab.backup(1);
    lab.store.reads.length = 0;
    await lab.prune(1);
    expect(lab.store.reads.filter((key) => key.startsWith("packs/")).length).toBeLessThanOrEqual(4);
    expect(await lab.store.keys("usage/")).toHaveLength(5);
  });

  test("documents of its own that are lost or damaged are made anew; those of maps that are gone are removed", async () => {
    const lab = await PruneLab.start();
    const points = [await lab.backup(), await lab.backup(), await lab.backup()];
    await lab.prune(1);
    const [one = "", two = "", ...rest] = await lab.store.keys("usage/");
    await lab.store.delete(one);
    await lab.store.put(two, randomBytes(100));
    await lab.forget(points[0]!);
    await lab.prune(GRACE_HOURS);
    for (const key of await lab.store.keys("prune/")) await lab.store.put(key, randomBytes(50));
    expect(await lab.prune(GRACE_HOURS), "a mark that cannot be read counts for nothing").toMatchObject({ removed: { packs: 0 } });
    const swept = await lab.prune(GRACE_HOURS);
    expect(swept.unclear).toEqual([]);
    expect(swept.removed.packs).toBeGreaterThan(0);
    expect((await lab.store.keys("usage/")).length).toBe(2);
    expect(rest.length).toBe(1);
    expect(new Set(await lab.packs())).toEqual(await packsNeeded(lab.repository));
    expect((await lab.restorable()).length).toBe(2);
  });

  test("a dry run says the same and changes nothing", async () => {
    const lab = await PruneLab.start();
    await lab.forget(await lab.backup());
    await lab.backup();
    await lab.prune(GRACE_HOURS);
    lab.store.hours += GRACE_HOURS;
    lab.store.onChange = (key) => {
      throw new Error(`${key} is changed`);
    };
    const said = await prune(lab.repository, { signal, dryRun: true });
    lab.store.onChange = () => undefined;
    expect(said.removed.packs).toBeGreaterThan(0);
    expect(await lab.prune(0)).toEqual(said);
  });

  test("a held point stays, forgotten or not, and so does all it needs", async () => {
    const lab = await PruneLab.start();
    const point = await lab.backup();
    await lab.backup();
    await lab.repository.catalog.forget(point.id);
    await lab.repository.catalog.hold(point.id);
    for (let i = 0; i < 3; i++)
      expect(await lab.prune(40)).toMatchObject({ points: { counted: 2, held: 1 }, removed: { points: [], packs: 0 } });
    expect((await lab.repository.catalog.point(point.id)).id).toBe(point.id);
    await lab.repository.catalog.release(point.id);
    expect(await lab.prune(1)).toMatchObject({ removed: { points: [point.id] } });
  });

  test("a held point stays also where the list of holds leaves it out", async () => {
    const lab = await PruneLab.start();
    const point = await lab.backup();
    await lab.backup();
    await lab.forget(point);
    await lab.repository.catalog.hold(point.id);
    for (const key of await lab.store.keys("holds/")) lab.store.unlisted.add(key);
    for (let i = 0; i < 3; i++)
      expect(await lab.prune(40)).toMatchObject({ points: { counted: 2, held: 1 }, removed: { points: [], packs: 0 } });
    expect((await readDisk(lab.repository, point)).equals(lab.contents.get(point.id)!)).toBe(true);
  });

  test("a held point that lists leave out keeps every pack", async () => {
    const lab = await PruneLab.start();
    const point = await lab.backup();
    await lab.backup();
    await lab.forget(point);
    await lab.repository.catalog.hold(point.id);
    const [at = ""] = await lab.store.keys("points/");
    lab.store.unlisted.add(at);
    for (let i = 0; i < 3; i++) {
      const { unclear, removed } = await lab.prune(40);
      expect([unclear.map(({ id }) => id), removed.packs]).toEqual([[point.id], 0]);
    }
    expect((await readDisk(lab.repository, point)).equals(lab.contents.get(point.id)!)).toBe(true);
    await lab.repository.catalog.release(point.id);
    expect((await lab.prune(1)).unclear).toEqual([]);
  });

  test.each(["pack", "point"] as const)("a check looks at what is held, forgotten or not: a %s that is lost is found", async (what) => {
    const lab = await PruneLab.start();
    const point = await lab.backup();
    await lab.backup();
    await lab.forget(point);
    await lab.repository.catalog.hold(point.id);
    const { pack } = point.disks[0]!.root!;
    const at = what === "pack" ? `packs/${lab.repository.domain}/${pack.slice(0, 2)}/${pack}` : pointAt(point.id.slice(0, 12), point.seq);
    await lab.store.put(at, randomBytes(10));
    const reports = [await checkRepository(lab.repository, { signal }), await checkListed(lab.repository, { signal, sample: 0 })];
    for (const { findings } of reports) expect(findings.flatMap(({ points }) => points)).toContain(point.id);
  });

  test("what lies where no pack and no point can lie is nobody's, and in nobody's way", async () => {
    const lab = await PruneLab.start();
    const point = await lab.backup();
    await lab.backup();
    const [vm = ""] = point.id.split("-");
    const strange = [`packs/${lab.repository.domain}/ff/${"f".repeat(32)}`, `points/${vm}/0000000000`];
    for (const key of strange) await lab.store.put(key, randomBytes(10));
    await lab.forget(point);
    await lab.prune(GRACE_HOURS);
    const { unclear, removed } = await lab.prune(GRACE_HOURS);
    expect(unclear).toEqual([]);
    expect(removed.packs).toBeGreaterThan(0);
    for (const key of strange) expect(await lab.store.keys(key)).toEqual([key]);
  });

  test.each(["damaged", "missing"] as const)("a point that is %s keeps every pack until it is forgotten", async (how) => {
    const lab = await PruneLab.start();
    const points = [await lab.backup(), await lab.backup(), await lab.backup()];
    await lab.forget(points[0]!);
    await lab.prune(GRACE_HOURS);
    const [vm = ""] = points[1]!.id.split("-");
    const at = pointAt(vm, 2);
    if (how === "missing") await lab.store.delete(at);
    else await lab.store.put(at, randomBytes(200));
    for (let i = 0; i < 3; i++) {
      const { unclear, removed } = await lab.prune(GRACE_HOURS);
      expect(unclear.map(({ id }) => id)).toEqual([points[1]!.id]);
      expect(removed.packs).toBe(0);
    }
    await lab.forget(points[1]!);
    await lab.prune(GRACE_HOURS);
    await lab.prune(GRACE_HOURS);
    const { unclear } = await lab.prune(GRACE_HOURS);
    expect(unclear).toEqual([]);
    expect(await lab.restorable()).toEqual([points[2]!.id]);
    expect(new Set(await lab.packs())).toEqual(await packsNeeded(lab.repository));
  });

  test("a map that cannot be read keeps every pack", async () => {
    const lab = await PruneLab.start();
    const points = [await lab.backup(), await lab.backup()];
    await lab.forget(points[0]!);
    const root = points[1]!.disks[0]!.root!;
    await lab.store.delete(`packs/${lab.repository.domain}/${root.pack.slice(0, 2)}/${root.pack}`);
    for (let i = 0; i < 3; i++) expect((await lab.prune(40)).unclear.map(({ id }) => id)).toEqual([points[1]!.id]);
  });

  test("numbers of points that were removed are never used again, also where the head was lost", async () => {
    const lab = await PruneLab.start();
    const points = [await lab.backup(), await lab.backup(), await lab.backup()];
    const [vm = ""] = points[0]!.id.split("-");
    await lab.forget(...points);
    await lab.prune(GRACE_HOURS);
    expect(await lab.store.keys("points/")).toEqual([]);
    await lab.store.delete(headAt(vm));
    lab.disk.trackChanges = false;
    expect((await lab.backup()).seq).toBe(4);
    expect((await lab.backup()).seq).toBe(5);
    expect((await lab.restorable()).length).toBe(2);
  });

  test("ended at any change, it is done by the next one, and nothing that counts is touched", async () => {
    for (let dies = 0, ended = false; !ended; dies++) {
      const lab = await PruneLab.start();
      const points = [await lab.backup(), await lab.backup(), await lab.backup()];
      await lab.forget(points[1]!);
      await lab.prune(GRACE_HOURS);
      let changes = 0;
      lab.store.onChange = () => {
        if (changes++ >= dies) throw new StoreError("failed", "it is ended");
      };
      lab.store.hours += GRACE_HOURS;
      ended = await prune(lab.repository, { signal }).then(
        () => true,
        () => false,
      );
      lab.store.onChange = () => undefined;
      expect(await lab.restorable(), `ended at change ${dies}`).toEqual([points[0]!.id, points[2]!.id]);
      await lab.prune(0);
      expect(new Set(await lab.packs()), `ended at change ${dies}`).toEqual(await packsNeeded(lab.repository));
    }
  });

  test("in a bucket without room it removes what may go, all the same", async () => {
    const lab = await PruneLab.start();
    const points = [await lab.backup(), await lab.backup()];
    await lab.forget(points[0]!);
    await lab.prune(GRACE_HOURS);
    const full = new FaultyObjectStore(lab.store, [
      { operations: ["put"], fault: { kind: "error-before", code: "no-space" } },
      { operations: ["putIfAbsent"], fault: { kind: "error-before", code: "no-space" } },
    ]);
    lab.store.hours += GRACE_HOURS;
    const { removed } = await prune(await Repository.open({ store: full, key: KEY }), { signal });
    expect(removed.packs).toBeGreaterThan(0);
    expect(new Set(await lab.packs())).toEqual(await packsNeeded(lab.repository));
  });

  test("credentials that may not delete: it says which ones it needs", async () => {
    const lab = await PruneLab.start();
    await lab.forget(await lab.backup());
    const refusing = new FaultyObjectStore(lab.store, [{ operations: ["delete"], fault: { kind: "error-before", code: "access-denied" } }]);
    lab.store.hours += GRACE_HOURS;
    await expect(prune(await Repository.open({ store: refusing, key: KEY }), { signal })).rejects.toMatchObject({
      code: "access-denied",
      hint: expect.stringMatching(/credentials that may delete/),
    });
  });
});
