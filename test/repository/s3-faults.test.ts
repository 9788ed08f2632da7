import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { copyPoints } from "../../src/copy/index.ts";
import { ThinstreamError } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { type ObjectStore, parseStoreUrl, RetryingObjectStore, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { checkListed, checkRepository, Codec, type PointRecord, prune, Repository } from "../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3 } from "../lab/index.ts";
import { type FaultProxy, startFaultProxy } from "../objectstore/s3/fault-proxy.ts";
import { Rng } from "../soak/rng.ts";
import { KEY, newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { packsNeeded } from "./packs-needed.ts";
import { aged, inHours } from "./prune/aged.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const ROUNDS = Number(process.env["ROUNDS"] ?? (process.env["SOAK"] === "1" ? 200 : 12));
const GRANULE = 65_536;
const SHARE = 0.1;
const MOST_POINTS = 16;
const OTHER_KEY = Buffer.alloc(32, 9);
const { signal } = new AbortController();

describe.skipIf(skipWithout("s3"))(`seed ${SEED}: an S3 server of whose answers one in ten goes wrong`, () => {
  let lab: S3Lab;
  let proxy: FaultProxy;
  let direct: S3ObjectStore;
  let bad: ObjectStore;
  let directly: S3ObjectStore;
  let badly: ObjectStore;
  beforeAll(async () => {
    lab = await startS3();
    Object.assign(process.env, lab.env);
    proxy = await startFaultProxy(lab.endpoint, { seed: SEED, silenceMs: 3000 });
    const at = (name: string, endpoint: string): S3Location => parseStoreUrl(lab.url(name).replace(lab.endpoint, endpoint)) as S3Location;
    const through = (name: string): ObjectStore =>
      new RetryingObjectStore(new S3ObjectStore(at(name, proxy.endpoint), { idleTimeout: 1500 }), { baseDelay: 5, maxDelay: 100 });
    [direct, directly] = [new S3ObjectStore(at("faults", lab.endpoint)), new S3ObjectStore(at("copies", lab.endpoint))];
    [bad, badly] = [through("faults"), through("copies")];
  }, 120_000);
  afterAll(async () => {
    for (const store of [bad, badly, direct, directly]) await store?.close();
    await proxy?.stop();
    await lab?.stop();
  });

  test(
    `${ROUNDS} rounds: each backup, restore, copy, check and prune ends well or says why not, and nothing is lost`,
    { timeout: ROUNDS * 60_000 + 60_000 },
    async () => {
      const plain = await newRepository(direct);
      const copies = await newRepository(directly, OTHER_KEY);
      const rng = new Rng(SEED, 1);
      const disks = new Map(["a", "b"].map((vm) => [vm, new MemoryDisk("vda", 48 * GRANULE)]));
      const contents = new Map<string, Buffer>();
      const tally: Record<string, number> = {};
      proxy.share = SHARE;
      const trying = async (what: string, work: () => Promise<unknown>): Promise<void> => {
        const end = await work().then(
          () => "done",
          (thrown: unknown) => {
            if (!(thrown instanceof ThinstreamError)) throw thrown;
            return "refused";
          },
        );
        tally[`${what} ${end}`] = (tally[`${what} ${end}`] ?? 0) + 1;
      };
      for (let round = 0; round < ROUNDS; round++) {
        for (const [vm, disk] of disks) {
          for (let i = rng.int(1, 8); i > 0; i--) disk.write(rng.int(0, 48) * GRANULE, randomBytes(GRANULE));
          await trying("backup", async () => await take(await Repository.open({ store: bad, key: KEY }), [disk], { vm }));
          // Whether the point came to be is for the store to say, not for the run: its last answers may be lost.
          for (const point of (await plain.catalog.list({ vm })).points)
            if (!contents.has(point.id)) contents.set(point.id, Buffer.from(disk.bytes));
        }
        const { points } = await plain.catalog.list();
        const point = rng.pick(points.length > 0 ? points : [null]);
        if (point !== null) {
          await trying("restore", async () => {
            const bytes = await readDisk(await Repository.open({ store: bad, key: KEY }), point);
            expect(bytes.equals(contents.get(point.id) as Buffer), point.id).toBe(true);
          });
        }
        await trying("copy", async () => {
          const [from, to] = [await Repository.open({ store: bad, key: KEY }), await Repository.open({ store: badly, key: OTHER_KEY })];
          const { failed } = await copyPoints({ from, to, wanted: "all", codec: Codec.lz4, signal, log: silentLogger });
          // A list that came from before shows what prune has removed since.
          for (const { id, message } of failed) expect(await plain.catalog.isLive(id), message).toBe(false);
        });
        await trying("check", async () => {
          const { findings } = await checkListed(await Repository.open({ store: bad, key: KEY }), { signal, sample: 0 });
          // A list that came from before shows nothing that was not there, and lacks what is new: that may be found missing, and is not damage.
          expect(findings.filter(({ reason }) => !reason.includes("missing"))).toEqual([]);
        });
        // One of those there are, and as many again as are more than a round of many can read back.
        for (let left = points.length; left > 4; left = left > MOST_POINTS ? left - 1 : 0)
          await trying("forget", async () => await (await Repository.open({ store: bad, key: KEY })).catalog.forget(rng.pick(points).id));
        await trying(
          "prune",
          async () => await prune(await Repository.open({ store: inHours(aged(bad, 40), 31 * (round + 1)), key: KEY }), { signal }),
        );
        await expectWhole(plain, contents);
        // Nobody forgets copies: some of them each time, all in the end.
        await expectWhole(copies, contents, (all) => Array.from({ length: Math.min(all.length, MOST_POINTS) }, () => rng.pick(all)));
      }
      proxy.share = 0;
      const last = { from: plain, to: copies, wanted: "all", codec: Codec.lz4, signal, log: silentLogger } as const;
      expect((await copyPoints(last)).failed).toEqual([]);
      expect((await copyPoints(last)).copied).toEqual([]);
      const origins = (await copies.catalog.list()).points.map(({ origin }) => origin?.point);
      expect(new Set(origins).size).toBe(origins.length);
      expect(origins).toEqual(expect.arrayContaining((await plain.catalog.list()).points.map(({ id }) => id)));
      for (const [repository, key] of [
        [plain, KEY],
        [copies, OTHER_KEY],
      ] as const) {
        for (let i = 1; i <= 3; i++)
          await prune(await Repository.open({ store: inHours(aged(repository.store, 40), 31 * (ROUNDS + i)), key }), { signal });
        await expectWhole(repository, contents);
        expect((await checkRepository(repository, { signal })).findings).toEqual([]);
        const stored = new Set<string>();
        for await (const { key: at } of repository.store.list("packs/")) stored.add(at.slice(-32));
        expect(stored).toEqual(await packsNeeded(repository));
      }
      console.log(`seed ${SEED}: ${ROUNDS} rounds: ${said(tally)}; of ${said(proxy.requests)} requests ailed: ${said(proxy.ailed)}`);
      expect(Object.values(proxy.ailed).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(ROUNDS);
    },
  );
});

/** Every point that is listed, or those of them that are picked, restores to what its disk was, read straight from the server. */
async function expectWhole(
  repository: Repository,
  contents: ReadonlyMap<string, Buffer>,
  pick: (points: readonly PointRecord[]) => readonly PointRecord[] = (all) => all,
): Promise<void> {
  const { points, unreadable } = await repository.catalog.list();
  expect(unreadable).toEqual([]);
  for (const point of pick(points))
    expect((await readDisk(repository, point)).equals(contents.get(point.origin?.point ?? point.id) as Buffer), point.id).toBe(true);
}

function said(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([what, count]) => `${count} ${what}`)
    .join(", ");
}
