import { globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PointSummary, WorkOrder } from "../../src/api/index.ts";
import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { formatKeyFile, type PointRecord, type Repository, vmId } from "../../src/repository/index.ts";
import { tempDir } from "../lab/index.ts";
import { KEY, newRepository, take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { expectFailed, succeeded } from "./ordered-vm.ts";
import { follow, PlacedOrder } from "./placed-order.ts";

const never = new AbortController().signal;
const POINTS = 620;
const MACHINES = 4;

describe("a repository of several hundred points", () => {
  const dir = tempDir("orders");
  const place = { url: `file://${join(dir, "repo")}`, keyFile: join(dir, "key") };
  let repository: Repository;
  let orders = 0;
  const order = async (work: WorkOrder["work"], changes: Partial<WorkOrder> = {}): Promise<PlacedOrder> => {
    orders += 1;
    return await PlacedOrder.place(join(dir, `order-${orders}`), work, { repository: place, ...changes });
  };
  beforeAll(async () => {
    writeFileSync(place.keyFile, formatKeyFile(KEY), { mode: 0o600 });
    repository = await newRepository(new FsObjectStore(join(dir, "repo")));
    const disk = new MemoryDisk("vda", 65_536);
    disk.write(0, Buffer.from("hello"));
    for (let machine = 0; machine < MACHINES; machine++) {
      const captures = machine === 0 ? { "big.bin": Buffer.alloc(2_500_000, 5) } : undefined;
      const first = await take(repository, [disk], { vm: `team-a/vm-${machine}`, ...(captures === undefined ? {} : { captures }) });
      await repeat(first, POINTS / MACHINES);
    }
  });
  afterAll(async () => repository?.store.close());

  /** Commits the same point again and again: a session for each would take minutes. */
  async function repeat(first: PointRecord, count: number): Promise<void> {
    const vm = vmId(repository.keys, first.vm.name);
    for (let seq = 2; seq <= count; seq++)
      await repository.catalog.commit(vm, { ...first, seq, id: `${vm}-${seq}`, parent: `${vm}-${seq - 1}`, captures: [] });
    await repository.catalog.writeHead(vm, count);
  }

  async function fetchAll(placed: PlacedOrder): Promise<{ pages: number[]; points: PointSummary[]; unreadable: string[] }> {
    const running = placed.start();
    await follow(running, "Serving");
    const [pages, points, unreadable]: [number[], PointSummary[], string[]] = [[], [], []];
    for (let after: number | null = 0; after !== null;) {
      const page: Awaited<ReturnType<typeof running.channel.points>> = await running.channel.points(after, never);
      pages.push(page.points.length + page.unreadable.length);
      points.push(...page.points);
      unreadable.push(...page.unreadable.map(({ id }) => id));
      after = page.next;
    }
    expect(await running.channel.points(10_000, never)).toMatchObject({ points: [], unreadable: [], next: null });
    await running.channel.done(never);
    expect(succeeded(await running.ended)).toMatchObject({ points: points.length });
    return { pages, points, unreadable };
  }

  test("is served in pages, every point once, machine by machine and the oldest first", async () => {
    const { pages, points, unreadable } = await fetchAll(await order({ type: "catalog", initialize: false }));
    expect([pages, unreadable]).toEqual([[500, POINTS - 500], []]);
    const listed = await repository.catalog.list();
    expect(points.map(({ id }) => id)).toEqual(listed.points.map(({ id }) => id).toSorted(byMachine));
    expect(points.find(({ id }) => id === listed.points[0]?.id)).toMatchObject({ seq: 1, parent: null, level: "full", disks: [{ name: "vda", size: 65_536 }], captures: [{ name: "big.bin", size: 2_500_000 }] }); // prettier-ignore
  });

  test("forgets points, also twice and ones that never were", async () => {
    const ids = (await repository.catalog.list({ vm: "team-a/vm-1" })).points.slice(0, 3).map(({ id }) => id);
    expect(succeeded(await (await order({ type: "forget", points: ids })).run())).toMatchObject({ points: 3, warnings: [] });
    const again = [...ids, "ffffffffffff-7"];
    expect(succeeded(await (await order({ type: "forget", points: again })).run())).toMatchObject({
      points: 3,
      warnings: [expect.stringContaining("ffffffffffff-7")],
    });
    const { points } = await fetchAll(await order({ type: "catalog", initialize: false }));
    expect(points).toHaveLength(POINTS - 3);
    expect(points.filter(({ id }) => ids.includes(id))).toEqual([]);
  });

  test("a held point is not forgotten, which is said, and the catalog tells of the hold", async () => {
    const [held = "", other = ""] = (await repository.catalog.list({ vm: "team-a/vm-2" })).points.map(({ id }) => id);
    await repository.catalog.hold(held);
    expect(succeeded(await (await order({ type: "forget", points: [held, other] })).run())).toMatchObject({
      points: 1,
      warnings: [expect.stringContaining(`${held} is held`)],
    });
    const { points } = await fetchAll(await order({ type: "catalog", initialize: false }));
    expect(points.filter((point) => point.held !== undefined).map(({ id }) => id)).toEqual([held]);
    expect(points.map(({ id }) => id)).not.toContain(other);
    await repository.catalog.release(held);
  });

  test("is pruned, and says what is stored and what of it is not needed", async () => {
    const result = succeeded(await (await order({ type: "prune" })).run());
    expect(result).toMatchObject({
      prune: { packs: expect.any(Number), removedPacks: 0, removedBytes: 0, waitingBytes: 0, unclear: 0 },
      warnings: [],
    });
    expect(result.prune?.packs).toBe(globSync("repo/packs/*/*/*", { cwd: dir }).length);
    expect(result.message).toMatch(/^0 forgotten restore points and 0 packs, 0 B, of \d+, .* were removed$/);
  });

  test("is checked: by lists alone, by a sample, and to the last byte", async () => {
    const packs = globSync("repo/packs/*/*/*", { cwd: dir });
    const listed = succeeded(await (await order({ type: "check", level: "list", samplePercent: 0 })).run());
    expect(listed.check).toMatchObject({
      level: "list",
      samplePercent: 0,
      packs: packs.length,
      bytesRead: 0,
      findings: 0,
      damagedPoints: [],
    });
    const whole = succeeded(await (await order({ type: "check", level: "list", samplePercent: 100 })).run());
    expect(whole.check?.bytesRead).toBeGreaterThan(MACHINES * 500);
    const bytes = readFileSync(join(dir, packs[0] ?? ""));
    rmSync(join(dir, packs[0] ?? ""));
    const damaged = succeeded(await (await order({ type: "check", level: "list", samplePercent: 0 })).run());
    writeFileSync(join(dir, packs[0] ?? ""), bytes);
    expect(damaged.check).toMatchObject({ findings: expect.any(Number), damaged: expect.any(Number) });
    // More points may be damaged than a result has room for.
    expect(damaged.check?.damagedPoints.length).toBe(Math.min(64, damaged.check?.damaged ?? 0));
    expect(damaged.message).toMatch(/^\d+ restore points lack something \(/);
  });

  test("names the points that cannot be read, and serves the others", async () => {
    const [file = ""] = globSync("repo/points/*/0000000007", { cwd: dir });
    const bytes = readFileSync(join(dir, file));
    writeFileSync(join(dir, file), Buffer.alloc(bytes.length));
    const { points, unreadable } = await fetchAll(await order({ type: "catalog", initialize: false }));
    expect([points.length, unreadable]).toEqual([POINTS - 5, [expect.stringMatching(/-7$/)]]);
    expectFailed(await (await order({ type: "inspect", point: unreadable[0] ?? "" })).run(), "PointDamaged");
    writeFileSync(join(dir, file), bytes);
  });

  test("a captured file of several pieces comes whole; one that is damaged fails the run", async () => {
    const first = (await repository.catalog.list({ vm: "team-a/vm-0" })).points[0];
    const whole = (await order({ type: "inspect", point: first?.id ?? "" })).start();
    await follow(whole, "Serving");
    expect((await whole.channel.capture("big.bin", never)).equals(Buffer.alloc(2_500_000, 5))).toBe(true);
    await whole.channel.done(never);
    succeeded(await whole.ended);
    const pack = first?.captures[0]?.pieces[0]?.pack ?? "";
    const [file = ""] = globSync(`repo/packs/*/*/${pack}`, { cwd: dir });
    const bytes = readFileSync(join(dir, file));
    rmSync(join(dir, file));
    const running = (await order({ type: "inspect", point: first?.id ?? "" })).start();
    await follow(running, "Serving");
    await expect(running.channel.capture("big.bin", never)).rejects.toMatchObject({ code: "failed" });
    expectFailed(await running.ended, "PointDamaged", /is damaged/);
    writeFileSync(join(dir, file), bytes);
  });

  test("nobody who fetches: the agent ends, and is worth another try", async () => {
    expectFailed(
      await (await order({ type: "catalog", initialize: false })).run({ env: { THINSTREAM_SERVING_MS: "700" } }),
      "NotFetched",
      /Nobody has asked/,
    );
    // Who asks keeps it up.
    const running = (await order({ type: "catalog", initialize: false })).start({ env: { THINSTREAM_SERVING_MS: "700" } });
    await follow(running, "Serving");
    for (let i = 0; i < 6; i++) {
      await sleep(250);
      await running.channel.progress(never);
    }
    await running.channel.done(never);
    succeeded(await running.ended);
  });

  test("without the right key, or without a repository, nothing is served, and the reason says whose turn it is", async () => {
    const wrong = join(dir, "wrong");
    writeFileSync(wrong, formatKeyFile(Buffer.alloc(32, 9)));
    const garbage = join(dir, "garbage");
    writeFileSync(garbage, "no key at all");
    for (const keyFile of [wrong, garbage, join(dir, "absent"), null]) {
      expectFailed(await (await order({ type: "catalog", initialize: false }, { repository: { ...place, keyFile } })).run(), "WrongKey");
    }
    expectFailed(
      await (await order({ type: "catalog", initialize: false }, { repository: { ...place, url: `file://${dir}/nothing` } })).run(),
      "RepositoryMissing",
    );
    expectFailed(
      await (await order({ type: "catalog", initialize: false }, { repository: { ...place, url: "ftp://host/x" } })).run(),
      "WorkOrderInvalid",
    );
    expectFailed(await (await order({ type: "inspect", point: "ffffffffffff-1" })).run(), "PointNotFound");
    const taken = await order({ type: "catalog", initialize: false });
    const first = taken.start();
    await follow(first, "Serving");
    const second = await order({ type: "catalog", initialize: false }, { channel: taken.order.channel });
    expectFailed(await second.run(), "Internal", /cannot listen on port/);
    await first.channel.done(never);
    succeeded(await first.ended);
  });
});

/** Ids are `<vm id>-<number>`. */
function byMachine(a: string, b: string): number {
  const [machine = "", seq = ""] = a.split("-");
  const [other = "", otherSeq = ""] = b.split("-");
  return machine === other ? Number(seq) - Number(otherSeq) : machine < other ? -1 : 1;
}
