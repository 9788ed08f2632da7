import { createHash, randomBytes } from "node:crypto";
import { expect, test } from "vitest";

import { ThinstreamError } from "../../src/lib/errors.ts";
import { type FaultRule, FaultyObjectStore } from "../../src/objectstore/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { checkRepository, Repository } from "../../src/repository/index.ts";
import { KEY, newRepository, take } from "./harness.ts";
import { readDisk } from "./light-reader.ts";
import { MemoryDisk } from "./memory-disk.ts";

const KiB = 1024;
const signal = new AbortController().signal;
const ROUNDS = Number(process.env["ROUNDS"] ?? (process.env["SOAK"] === "1" ? 400 : 12));
const SEED = Number(process.env["SEED"] ?? 20_260_101);

/** Numbers from 0 to below `n`, the same for the same seed and place. */
function chance(place: string, n: number): number {
  return createHash("sha256").update(`${SEED} ${place}`).digest().readUInt32LE(0) % n;
}

test("two machines at once into one repository: both are whole and share what they have in common", async () => {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store);
  const common = randomBytes(1024 * KiB);
  const disks = ["a", "b"].map((vm) => {
    const disk = new MemoryDisk("vda", 3072 * KiB);
    disk.write(0, common);
    disk.write(1500 * KiB, randomBytes(500 * KiB));
    return { vm, disk };
  });
  for (let round = 0; round < 3; round++) {
    const points = await Promise.all(
      disks.map(async ({ vm, disk }) => await take(await Repository.open({ store, key: KEY }), [disk], { vm })),
    );
    for (const [i, point] of points.entries()) {
      expect(point.seq).toBe(round + 1);
      expect((await readDisk(repository, point)).equals(disks[i]?.disk.bytes as Buffer)).toBe(true);
    }
    for (const { disk } of disks) {
      disk.checkpoint();
      disk.write(round * 200 * KiB, randomBytes(100 * KiB));
    }
  }
  expect((await checkRepository(repository, { signal })).findings).toEqual([]);
});

interface Machine {
  readonly vm: string;
  readonly disk: MemoryDisk;
  /** content of each point that was ever seen, by id */
  readonly contents: Map<string, Buffer>;
}

/** Slow here and there, and wrong at times: before, after, at any call. */
function weather(round: number): FaultRule[] {
  const often = [0, 0.01, 0.03, 0.1][round % 4] ?? 0;
  return [
    { probability: 0.3, fault: { kind: "delay", milliseconds: 1 + chance(`delay ${round}`, 5) } },
    { probability: 0.1, fault: { kind: "delay", milliseconds: 10 + chance(`long ${round}`, 40) } },
    { probability: often, fault: { kind: "error-before", code: "unavailable" } },
    { probability: often, fault: { kind: "error-after", code: "timeout" } },
  ];
}

test(
  `${ROUNDS} rounds of writers, rivals and forgetters on a store that fails: every visible point is whole`,
  { timeout: ROUNDS * 10_000 + 60_000 },
  async () => {
    const store = new MemoryObjectStore();
    const plain = await newRepository(store);
    const machines = ["a", "b"].map((vm): Machine => ({ vm, disk: new MemoryDisk("vda", 640 * KiB), contents: new Map() }));
    for (const { disk } of machines) disk.write(0, randomBytes(400 * KiB));
    const tally = { committed: 0, refused: 0, forgotten: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const faulty = new FaultyObjectStore(store, weather(round), SEED + round);
      const results = await Promise.allSettled(machines.flatMap((machine, i) => storm(faulty, machine, `${round} ${i}`)));
      for (const result of results) {
        if (result.status === "rejected") expect(result.reason, `seed ${SEED}, round ${round}`).toBeInstanceOf(ThinstreamError);
        tally[result.status === "rejected" ? "refused" : result.value]++;
      }
      for (const machine of machines) await settle(plain, machine, `seed ${SEED}, round ${round}`);
    }
    process.stderr.write(`interleavings: seed ${SEED}, ${ROUNDS} rounds, ${JSON.stringify(tally)}\n`);
    expect(tally.committed).toBeGreaterThan(ROUNDS / 2);
    expect(tally.refused).toBeGreaterThan(0);
    expect((await checkRepository(plain, { signal })).findings).toEqual([]);
    for (const { vm, contents } of machines) {
      for (const point of (await plain.catalog.list({ vm })).points)
        expect((await readDisk(plain, point)).equals(contents.get(point.id) as Buffer), point.id).toBe(true);
    }
  },
);

/** What goes on at once for one machine: a backup, perhaps a second one of the same machine, perhaps somebody who forgets an old point. */
function storm(store: FaultyObjectStore, { vm, disk, contents }: Machine, place: string): Promise<"committed" | "forgotten">[] {
  const backup = async (): Promise<"committed"> => {
    await take(await Repository.open({ store, key: KEY }), [disk], { vm, captures: { xml: Buffer.from(place) } });
    return "committed";
  };
  const forget = async (id: string): Promise<"forgotten"> => {
    await (await Repository.open({ store, key: KEY })).catalog.forget(id);
    return "forgotten";
  };
  const work = [backup()];
  if (chance(`rival ${place}`, 3) === 0) work.push(backup());
  const old = [...contents.keys()].slice(0, -1);
  if (old.length > 0 && chance(`forget ${place}`, 2) === 0) return [...work, forget(old[chance(`which ${place}`, old.length)] as string)];
  return work;
}

/** Looks at what the round left: points are whole, old ones (some of them) unchanged, new ones what the disk was in this round; then the guest goes on. */
async function settle(repository: Repository, { vm, disk, contents }: Machine, what: string): Promise<void> {
  const { points, unreadable } = await repository.catalog.list({ vm });
  expect(unreadable, what).toEqual([]);
  let added = 0;
  for (const point of points) {
    if (!contents.has(point.id)) {
      added++;
      contents.set(point.id, Buffer.from(disk.bytes));
    } else if (chance(`again ${what} ${point.id}`, points.length) > 1) continue;
    expect((await readDisk(repository, point)).equals(contents.get(point.id) as Buffer), `${what}: ${point.id}`).toBe(true);
  }
  // A rival that begins after the other's commit makes a point of its own.
  expect(added, what).toBeLessThanOrEqual(2);
  if (added > 0) disk.checkpoint();
  disk.write(chance(`at ${what} ${vm}`, 500) * KiB, randomBytes(40 * KiB));
}
