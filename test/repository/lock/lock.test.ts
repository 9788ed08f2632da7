import { randomBytes } from "node:crypto";
import { DeleteObjectCommand, type ObjectVersion, PutObjectCommand, PutObjectRetentionCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { mapConcurrently } from "../../../src/lib/concurrency.ts";
import type { ObjectLocks, ObjectStore } from "../../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../../src/objectstore/memory/index.ts";
import { extendLocks, prune, Repository } from "../../../src/repository/index.ts";
import { listVersions, type VersionedObject } from "../../../src/repository/lock/versions.ts";
import { type S3Make, s3Makes } from "../../lab/s3-makes.ts";
import { skipWithout } from "../../lab/index.ts";
import { KEY, newRepository } from "../harness.ts";
import { readDisk } from "../light-reader.ts";
import { packsNeeded } from "../packs-needed.ts";
import { aged, inHours } from "../prune/aged.ts";
import { HOUR, LockedRepository, LockLab } from "./lab.ts";

const { signal } = new AbortController();
const NEEDED = /\/(packs|points|config|keys)\b/;

/** Locks every version there is for a moment, as an upload long ago was locked. */
async function lockBriefly(repo: LockedRepository): Promise<Date> {
  const until = new Date(Date.now() + 6000);
  for (const { Key, VersionId } of await repo.versions()) {
    const Retention = { Mode: "COMPLIANCE", RetainUntilDate: until } as const;
    await repo.lab.admin.send(new PutObjectRetentionCommand({ Bucket: repo.lab.s3.bucket, Key, VersionId, Retention }));
  }
  return until;
}

async function whenOver(time: Date): Promise<void> {
  // Locks end by the second.
  await new Promise((resolve) => setTimeout(resolve, time.getTime() + 1500 - Date.now()));
}

async function endsOf(repo: LockedRepository): Promise<(readonly [ObjectVersion & { readonly Key: string }, Date | null])[]> {
  return await Promise.all((await repo.versions()).map(async (version) => [version, await repo.lockOf(version)] as const));
}

async function expectAllRestore(repo: LockedRepository): Promise<void> {
  const { points, unreadable } = await repo.repository.catalog.list();
  expect(unreadable).toEqual([]);
  for (const point of points)
    expect((await readDisk(repo.repository, point)).equals(repo.contents.get(point.id) as Buffer), point.id).toBe(true);
}

describe.each(["minio", "versitygw"] as const)("locks of what is needed, on %s", (make: S3Make) => {
  describe.skipIf(skipWithout(s3Makes[make].tier))("renewed by reachability", () => {
    let lab: LockLab;
    beforeAll(async () => {
      lab = await LockLab.start(make);
    }, 120_000);
    afterAll(async () => await lab?.stop());

    test("what is needed outlives its first lock, and what is not runs out and is removed", async () => {
      const repo = await LockedRepository.create(lab, 3);
      const first = await lockBriefly(repo);
      const [forgotten = ""] = repo.contents.keys();
      await repo.repository.catalog.forget(forgotten);
      const report = await repo.lock(40);
      expect(report).toMatchObject({ points: 2, unlocked: 0, left: 0, unclear: [] });
      for (const { objects } of [report.missing, report.overwritten, report.hidden]) expect(objects).toBe(0);
      const needed = await packsNeeded(repo.repository);
      expect(report.renewed).toBe(needed.size + 4);

      const unneeded = (await repo.versions("packs/")).filter(({ Key }) => !needed.has(Key.slice(-32)));
      expect(unneeded.length).toBeGreaterThan(0);
      const hours = async (at: number): Promise<Repository> =>
        await Repository.open({ store: inHours(aged(lab.connect(repo.prefix), 40), at), key: KEY });
      await prune(await hours(0), { signal });
      const pruned = await prune(await hours(31), { signal });
      expect(pruned.removed.packs).toBe(unneeded.length);
      await whenOver(first);
      const stays = (await repo.versions()).filter(({ Key }) => needed.has(Key.slice(-32)) || Key.endsWith("/config"));
      for (const version of stays) expect(await repo.destroy(version), version.Key).toBe(false);
      for (const version of unneeded) expect(await repo.destroy(version), version.Key).toBe(true);
      await expectAllRestore(repo);
    }, 120_000);

    test("of what prune removes under a lock it says until when the bytes stay", async () => {
      const repo = await LockedRepository.create(lab, 3);
      const { until } = await repo.lock(0, { periodMs: 200 * HOUR });
      await repo.repository.catalog.forget([...repo.contents.keys()][0] ?? "");
      const hours = async (at: number): Promise<Repository> =>
        await Repository.open({ store: inHours(aged(lab.connect(repo.prefix), 40), at), key: KEY });
      await prune(await hours(0), { signal });
      const { removed, locked } = await prune(await hours(31), { signal });
      expect(removed.packs).toBeGreaterThan(0);
      expect(locked).toMatchObject({ packs: removed.packs, bytes: removed.bytes });
      expect(Math.abs((locked?.until.getTime() ?? 0) - until.getTime())).toBeLessThan(HOUR);
      // The next run knows of them that they are needed no more, and leaves them alone.
      const released = await repo.lock(71, { periodMs: 200 * HOUR });
      expect(released).toMatchObject({ points: 2, released: { until: locked?.until }, missing: { objects: 0 } });
      expect(released.released.objects).toBeGreaterThanOrEqual(removed.packs);
      expect((await prune(await hours(71), { signal })).removed.packs).toBe(0);
    }, 120_000);

    test("versions of an object in many pages are one object, and its first is found", async () => {
      const store = lab.connect(randomBytes(4).toString("hex"));
      await store.put("packs/b", Buffer.from("first"));
      const [first] = await versionsOf(store, "packs/b");
      await mapConcurrently(Array.from({ length: 1100 }), 16, async () => await store.put("packs/b", Buffer.alloc(1)));
      await store.put("packs/a", Buffer.alloc(2));
      await store.put("packs/c", Buffer.alloc(3));
      await store.delete("packs/c");
      const found: VersionedObject[] = [];
      for await (const object of listVersions(store.locks as ObjectLocks, "packs/", signal)) found.push(object);
      expect(found.map(({ key, versions, hidden }) => [key, versions.length, hidden])).toEqual([
        ["packs/a", 1, false],
        ["packs/b", 2, false],
        ["packs/c", 1, true],
      ]);
      expect(found[1]?.versions.map(({ version, isLatest }) => [version === first, isLatest])).toEqual([
        [true, false],
        [false, true],
      ]);
      await store.close();
    }, 120_000);

    async function versionsOf(store: ObjectStore, key: string): Promise<string[]> {
      return ((await store.locks?.versions(key, null))?.versions ?? []).map(({ version }) => version);
    }

    test("over four periods of hourly runs each object costs its share, and nothing is ever near its end", async () => {
      const repo = await LockedRepository.create(lab, 3);
      const { renewed: objects } = await repo.lock(0);
      let renewed = 0;
      lab.requests();
      for (let hour = 1; hour <= 96; hour++) {
        const report = await repo.lock(hour);
        renewed += report.renewed;
        expect((report.soonest?.getTime() ?? 0) - report.at.getTime()).toBeGreaterThan(24 * HOUR * (1 / 3) - 2 * HOUR);
        // For what was not due no more than the sample was asked.
        expect(report.requests - report.renewed).toBeLessThanOrEqual(objects);
        expect(report).toMatchObject({ distrusted: false, unlocked: 0, lapsed: 0 });
      }
      // A period less what is left of it at renewal: 12 to 16 of 24 hours, and one at most for the whole hours that are counted.
      expect(renewed / objects).toBeGreaterThanOrEqual(96 / 16);
      expect(renewed / objects).toBeLessThanOrEqual(96 / 11);
      expect(lab.requests()["PUT"], "one for each renewal, and one document a run").toBe(renewed + 96);
    }, 400_000);

    test("an attack after a renewal takes nothing away: all points restore from then, and the next run says what happened", async () => {
      const repo = await LockedRepository.create(lab, 3);
      await repo.lock(0);
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const before = new Date(new Date((await fetch(lab.s3.endpoint)).headers.get("date") ?? "").getTime() - 500);
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const versions = (await repo.versions()).filter(({ Key }) => /\/(packs|points)\//.test(Key));
      for (const [i, version] of versions.entries()) {
        expect(await repo.destroy(version), version.Key).toBe(false);
        const place = { Bucket: lab.s3.bucket, Key: version.Key };
        if (i % 3 !== 0) await lab.admin.send(new PutObjectCommand({ ...place, Body: randomBytes(300) }));
        if (i % 3 !== 1) await lab.admin.send(new DeleteObjectCommand(place));
      }
      const past = await Repository.open({ store: lab.connect(repo.prefix, before), key: KEY });
      for (const point of (await past.catalog.list()).points)
        expect((await readDisk(past, point)).equals(repo.contents.get(point.id) as Buffer)).toBe(true);

      // Later, when all is due: what was first is renewed though it is behind rubbish or a marker.
      const report = await repo.lock(20);
      expect(report.overwritten.objects).toBeGreaterThan(0);
      expect(report.hidden.objects).toBeGreaterThan(0);
      expect(report.unclear.length).toBeGreaterThan(0);
      for (const version of versions)
        expect((await repo.lockOf(version))?.getTime(), version.Key).toBeGreaterThan(report.until.getTime() - 1000);
    }, 120_000);

    test("a book that is lost, spoiled or forged costs requests, and leaves nothing unprotected", async () => {
      const repo = await LockedRepository.create(lab, 2);
      const { renewed } = await repo.lock(0);
      const at = `locks/${repo.repository.domain}`;
      const book = await repo.store.get(at);
      for (const bad of [null, randomBytes(200), book.subarray(0, 50)]) {
        await (bad === null ? repo.store.delete(at) : repo.store.put(at, bad));
        expect(await repo.lock(20)).toMatchObject({ renewed, unlocked: 0, distrusted: false });
      }
      // By a thief with the domain's key: as if all were locked for long, which the store knows to be untrue.
      await repo.lock(10_000);
      const copy = await moved(repo);
      const report = await copy.lock(30);
      expect(report).toMatchObject({ distrusted: true, renewed, unlocked: 0 });
      expect(report.requests, "the proof, and a question and a lock for each").toBeGreaterThanOrEqual(2 * renewed);
      for (const [version, end] of await endsOf(copy)) if (NEEDED.test(version.Key)) expect(end, version.Key).not.toBeNull();
    }, 120_000);

    /** The same objects at another place, where nothing is locked, and the book says what was true of the first. */
    async function moved(repo: LockedRepository): Promise<LockedRepository> {
      const copy = LockedRepository.empty(lab);
      for await (const { key } of repo.store.list("")) await copy.store.put(key, await repo.store.get(key));
      return copy;
    }

    test("with too few requests the most urgent come first, the rest is said, and later runs do it", async () => {
      const repo = await LockedRepository.create(lab, 3);
      const first = await repo.lock(0, { budget: 5 });
      expect(first).toMatchObject({ renewed: 5, requests: 5 });
      expect([first.left, first.unlocked]).toEqual([6, 6]);
      expect(await repo.lock(1, { budget: 100 })).toMatchObject({ renewed: 6, unlocked: 0, left: 0 });
      // At hour 23 those of hour 0 end soonest.
      const soonest = await repo.lock(23, { budget: 5 });
      expect([soonest.renewed, soonest.left]).toEqual([5, 6]);
      expect(soonest.soonest?.getTime()).toBeGreaterThanOrEqual(soonest.at.getTime() + HOUR);
    }, 120_000);

    test("killed in the middle and run again, everything is locked", async () => {
      const repo = await LockedRepository.create(lab, 3);
      const killed = new AbortController();
      const onProgress = ({ step, done }: { readonly step: string; readonly done: number }): void => {
        if (step === "lock" && done === 4) killed.abort(new Error("killed"));
      };
      await expect(repo.lock(0, { signal: killed.signal, onProgress })).rejects.toThrow("killed");
      expect(await repo.lock(0)).toMatchObject({ unlocked: 0, left: 0 });
      for (const [{ Key }, end] of await endsOf(repo)) if (NEEDED.test(Key)) expect(end, Key).not.toBeNull();
    }, 120_000);

    test("a longer lock stays as it is, and one of the other mode is extended in its own", async () => {
      const repo = await LockedRepository.create(lab, 2);
      const [longer, other] = await repo.versions("packs/");
      const put = async (version: ObjectVersion | undefined, Mode: "COMPLIANCE" | "GOVERNANCE", hours: number): Promise<void> => {
        const RetainUntilDate = new Date(Date.now() + hours * HOUR);
        const { Key, VersionId } = version ?? {};
        await lab.admin.send(
          new PutObjectRetentionCommand({ Bucket: lab.s3.bucket, Key, VersionId, Retention: { Mode, RetainUntilDate } }),
        );
      };
      await put(longer, "GOVERNANCE", 500);
      await put(other, "COMPLIANCE", 2);
      expect(await repo.lock(0, { mode: "governance" })).toMatchObject({ unlocked: 0, left: 0 });
      expect((await repo.lockOf(longer ?? {}))?.getTime()).toBeGreaterThan(Date.now() + 499 * HOUR);
      expect((await repo.lockOf(other ?? {}))?.getTime()).toBeGreaterThan(Date.now() + 23 * HOUR);
    }, 120_000);

    test("what the bucket locks by itself is asked for once, and extended when it is due", async () => {
      await lab.lockByDefault({ Mode: "GOVERNANCE", Days: 2 });
      try {
        const repo = await LockedRepository.create(lab, 2);
        const fresh = await repo.lock(0);
        const objects = fresh.locked.reduce((sum, day) => sum + day.objects, 0);
        // The gateway keeps the default to itself, and counts it from the day it was set: no object shows it.
        const renewed = make === "minio" ? 0 : objects;
        expect(fresh).toMatchObject({ renewed, requests: objects + renewed, unlocked: 0, left: 0 });
        expect(await repo.lock(1, { dryRun: true })).toMatchObject({ renewed: 0, requests: objects });
        expect(await repo.lock(45)).toMatchObject({ renewed: objects, unlocked: 0 });
      } finally {
        await lab.lockByDefault(null);
      }
    }, 120_000);

    test("while it cannot be told what a point needs, all that is stored is kept locked", async () => {
      const repo = await LockedRepository.create(lab, 2);
      const [point] = await repo.versions("points/");
      await lab.admin.send(new DeleteObjectCommand({ Bucket: lab.s3.bucket, Key: point?.Key }));
      const report = await repo.lock(0);
      expect(report).toMatchObject({
        points: 1,
        unclear: [{ reason: expect.stringMatching(/missing/) as string }],
        hidden: { objects: 1 },
      });
      for (const version of [point ?? {}, ...(await repo.versions("packs/"))]) expect(await repo.lockOf(version)).not.toBeNull();
    }, 120_000);
  });
});

describe("a store that locks nothing", () => {
  test("is told so", async () => {
    const repository = await newRepository(new MemoryObjectStore());
    await expect(extendLocks(repository, { periodMs: 24 * HOUR, budget: 10, signal })).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringMatching(/no Object Lock/) as string,
    });
  });
});
