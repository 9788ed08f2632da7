import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ThinstreamError } from "../../src/lib/errors.ts";
import { type ObjectStore, parseStoreUrl, RetryingObjectStore, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { checkListed, checkRepository, prune, Repository } from "../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3 } from "../lab/index.ts";
import { type FaultProxy, startFaultProxy } from "../objectstore/s3/fault-proxy.ts";
import { Rng } from "../soak/rng.ts";
import { KEY, newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";
import { packsNeeded } from "./packs-needed.ts";
import { aged, inHours } from "./prune/aged.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const ROUNDS = Number(process.env["ROUNDS"] ?? (process.env["SOAK"] === "1" ? 200 : 15));
const GRANULE = 65_536;
const SHARE = 0.1;
const { signal } = new AbortController();

describe.skipIf(skipWithout("s3"))(`seed ${SEED}: an S3 server of whose answers one in ten goes wrong`, () => {
  let lab: S3Lab;
  let proxy: FaultProxy;
  let direct: S3ObjectStore;
  let bad: ObjectStore;
  beforeAll(async () => {
    lab = await startS3();
    Object.assign(process.env, lab.env);
    proxy = await startFaultProxy(lab.endpoint, { seed: SEED, silenceMs: 3000 });
    const at = (endpoint: string): S3Location => parseStoreUrl(lab.url("faults").replace(lab.endpoint, endpoint)) as S3Location;
    direct = new S3ObjectStore(at(lab.endpoint));
    bad = new RetryingObjectStore(new S3ObjectStore(at(proxy.endpoint), { idleTimeout: 1500 }), { baseDelay: 5, maxDelay: 100 });
  }, 120_000);
  afterAll(async () => {
    await bad?.close();
    await direct?.close();
    await proxy?.stop();
    await lab?.stop();
  });

  test(
    `${ROUNDS} rounds: each backup, restore, check and prune ends well or says why not, and nothing is lost`,
    { timeout: ROUNDS * 30_000 + 60_000 },
    async () => {
      const plain = await newRepository(direct);
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
        await trying("check", async () => {
          const { findings } = await checkListed(await Repository.open({ store: bad, key: KEY }), { signal, sample: 0 });
          // A list that came from before shows nothing that was not there, and lacks what is new: that may be found missing, and is not damage.
          expect(findings.filter(({ reason }) => !reason.includes("missing"))).toEqual([]);
        });
        if (points.length > 4)
          await trying("forget", async () => await (await Repository.open({ store: bad, key: KEY })).catalog.forget(rng.pick(points).id));
        await trying(
          "prune",
          async () => await prune(await Repository.open({ store: inHours(aged(bad, 40), 31 * (round + 1)), key: KEY }), { signal }),
        );
        await expectWhole(plain, contents);
      }
      proxy.share = 0;
      for (let i = 1; i <= 3; i++)
        await prune(await Repository.open({ store: inHours(aged(direct, 40), 31 * (ROUNDS + i)), key: KEY }), { signal });
      await expectWhole(plain, contents);
      expect((await checkRepository(plain, { signal })).findings).toEqual([]);
      const stored = new Set<string>();
      for await (const { key } of direct.list("packs/")) stored.add(key.slice(-32));
      expect(stored).toEqual(await packsNeeded(plain));
      console.log(`seed ${SEED}: ${ROUNDS} rounds: ${said(tally)}; of ${said(proxy.requests)} requests ailed: ${said(proxy.ailed)}`);
      expect(Object.values(proxy.ailed).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(ROUNDS);
    },
  );
});

/** Every point that is listed restores to what its disk was, read straight from the server. */
async function expectWhole(repository: Repository, contents: ReadonlyMap<string, Buffer>): Promise<void> {
  const { points, unreadable } = await repository.catalog.list();
  expect(unreadable).toEqual([]);
  for (const point of points) expect((await readDisk(repository, point)).equals(contents.get(point.id) as Buffer), point.id).toBe(true);
}

function said(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([what, count]) => `${count} ${what}`)
    .join(", ");
}
