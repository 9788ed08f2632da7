import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { FrameSealer } from "../../../src/repository/format/frame.ts";
import { FrameKind } from "../../../src/repository/format/constants.ts";
import { checkDomains, offerHints, pruneDomains, Repository, similarImages } from "../../../src/repository/index.ts";
import { packAt } from "../../../src/repository/layout.ts";
import { ImageMap } from "../../../src/repository/map/image-map.ts";
import { NodeReader } from "../../../src/repository/map/node-reader.ts";
import { KEY } from "../harness.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { DomainLab } from "./lab.ts";

const signal = new AbortController().signal;
const KiB = 1024;

async function hashesOf(repository: Repository): Promise<Set<string>> {
  const { store, domain, keys } = repository;
  const hashes = new Set<string>();
  const { points } = await repository.catalog.list();
  for (const point of points)
    for (const disk of point.disks)
      for await (const { reference } of new ImageMap(new NodeReader({ store, domain, sealer: new FrameSealer(keys) }), disk).granules())
        hashes.add(reference.hash.toString("hex"));
  return hashes;
}

describe("domains", () => {
  test("machines of one name in two domains are two, each with a chain of its own; the same content is stored twice and shares no hash", async () => {
    const lab = await DomainLab.start("default", "blue");
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
    const domains = await lab.domains();
    const [first, second] = [domains.named("default"), domains.named("blue")];
    const lists = [(await first.catalog.list()).points, (await second.catalog.list()).points];
    for (const points of lists)
      expect(points.map(({ seq, parent }) => [seq, parent])).toEqual([
        [1, null],
        [2, points[0]?.id],
      ]);
    expect(new Set(lists.flat().map(({ id }) => id)).size).toBe(4);
    const [a, b] = [await hashesOf(first), await hashesOf(second)];
    expect(a.size).toBe(b.size);
    expect([...a].filter((hash) => b.has(hash))).toEqual([]);
    const uploaded = lists.map(([point]) => point?.disks[0]?.stats.newBytes);
    expect(uploaded[0]).toBeGreaterThan(300 * KiB - 1);
    expect(uploaded[1]).toBe(uploaded[0]);
    const packs = await lab.store.keys("packs/");
    expect(packs.filter((key) => key.startsWith(`packs/${first.domain}/`)).length).toBe(packs.length / 2);
  });

  test("hints do not cross domains: an image of one is not compared with in another", async () => {
    const lab = await DomainLab.start("default", "blue");
    const domains = await lab.domains();
    const [first, second] = [domains.named("default"), domains.named("blue")];
    const disk = lab.disks.get("default/web") ?? new MemoryDisk("vda", KiB);
    const { points } = await first.catalog.list();
    await offerHints(first, points[0]!, signal);
    expect(await similarImages(first, disk, signal)).toHaveLength(1);
    expect(await similarImages(second, disk, signal)).toEqual([]);
    await lab.store.put(`hints/${second.domain}`, await lab.store.get(`hints/${first.domain}`));
    expect(await similarImages(second, disk, signal)).toEqual([]);
  });

  test("check and prune go over all domains; a damaged pack is of one of them, and names its points alone", async () => {
    const lab = await DomainLab.start("default", "blue", "red");
    for (const level of ["list", "read"] as const) {
      const report = await checkDomains(await lab.domains(), { signal, level, sample: 0 });
      expect(report).toMatchObject({ points: 6, findings: [], destroyed: [] });
    }
    expect(await pruneDomains(await lab.domains(), { signal })).toMatchObject({
      points: { counted: 6 },
      unclear: [],
      removed: { packs: 0 },
    });
    const blue = (await lab.domains()).named("blue");
    const newest = (await blue.catalog.list()).points.at(-1);
    const root = newest?.disks[0]?.root;
    const pack = packAt(blue.domain, root?.pack ?? "");
    const bytes = Buffer.from(await lab.store.get(pack));
    bytes.fill(0, root?.offset, (root?.offset ?? 0) + 20);
    await lab.store.put(pack, bytes);
    const { findings } = await checkDomains(await lab.domains(), { signal, level: "read", sample: 0 });
    const ids = new Set((await blue.catalog.list()).points.map(({ id }) => id));
    expect(findings.length).toBeGreaterThan(0);
    for (const finding of findings) expect(finding.points.every((id) => ids.has(id))).toBe(true);
    expect(await lab.store.keys("damage/")).toEqual([`damage/${blue.domain}`]);
  });

  test("a forgotten point of one domain goes with its packs by the usual times, and nothing of another", async () => {
    const lab = await DomainLab.start("default", "blue");
    const blue = (await lab.domains()).named("blue");
    const { points } = await blue.catalog.list();
    await blue.catalog.forget(points[0]!.id);
    const others = await lab.store.keys(`packs/${(await lab.domains()).named("default").domain}/`);
    const before = await lab.store.keys("packs/");
    for (let hours = 0; hours < 100; hours += 31) {
      lab.store.hours += 31;
      expect((await pruneDomains(await lab.domains(), { signal })).unclear).toEqual([]);
    }
    expect((await lab.store.keys("packs/")).length).toBeLessThan(before.length);
    expect(await lab.store.keys(`packs/${(await lab.domains()).named("default").domain}/`)).toEqual(others);
    expect(await lab.restorable()).toEqual({ default: 2, blue: 1 });
  });

  test("a head that was forged by who has another domain's key costs no pack: while a point is unclear nothing goes in any domain", async () => {
    const lab = await DomainLab.start("default", "blue");
    const domains = await lab.domains();
    const [first, blue] = [domains.named("default"), domains.named("blue")];
    const { points } = await first.catalog.list();
    const vm = points[0]!.id.slice(0, 12);
    await blue.catalog.writeHead(vm, 2);
    const before = await lab.store.keys("packs/");
    for (let round = 0; round < 4; round++) {
      lab.store.hours += 31;
      const report = await pruneDomains(await lab.domains(), { signal });
      expect(report.unclear.map(({ id }) => id)).toEqual(points.map(({ id }) => id));
      expect(report.removed).toEqual({ points: [], packs: 0, bytes: 0 });
    }
    expect(await lab.store.keys("packs/")).toEqual(before);
    await first.catalog.writeHead(vm, 2);
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
  });

  test("what a program that knows one domain does here: it reads its own points, and gives up nothing of anybody's", async () => {
    const { prune } = await import("../../../src/repository/index.ts");
    const lab = await DomainLab.start("default", "blue");
    const old = await Repository.open({ store: lab.store, key: KEY });
    const before = await lab.store.keys("packs/");
    for (let round = 0; round < 4; round++) {
      lab.store.hours += 31;
      const report = await prune(old, { signal });
      expect(report.unclear).toHaveLength(2);
      expect(report.removed).toEqual({ points: [], packs: 0, bytes: 0 });
    }
    expect(await lab.store.keys("packs/")).toEqual(before);
    const listing = await old.catalog.list();
    expect([listing.points.length, listing.unreadable.length]).toEqual([2, 2]);
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
  });

  test("a domain that was made since the repository was opened is no damage", async () => {
    const lab = await DomainLab.start("default");
    const domains = await lab.domains();
    await lab.backup("blue", randomBytes(KiB));
    expect(await checkDomains(domains, { signal, level: "list", sample: 0 })).toMatchObject({ findings: [] });
    expect((await domains.list()).unreadable).toEqual([]);
    const report = await pruneDomains(domains, { signal });
    expect(report.unclear).toHaveLength(1);
    expect(await lab.restorable()).toEqual({ default: 2, blue: 1 });
  });

  test("a lost domain key is said to be lost, and shuts out no other domain; without encryption there is one domain", async () => {
    const lab = await DomainLab.start("default", "blue");
    const blue = (await lab.domains()).named("blue");
    const wrapped = await lab.store.get(`keys/${blue.domain}`);
    await lab.store.delete(`keys/${blue.domain}`);
    const domains = await lab.domains();
    expect(domains.lost).toMatchObject([
      { id: blue.domain, error: { code: "damaged", message: expect.stringContaining("is missing") as string } },
    ]);
    expect((await domains.list()).points).toHaveLength(2);
    const { findings } = await checkDomains(domains, { signal, level: "list", sample: 0 });
    expect(findings.map(({ what }) => what)).toContain(`keys/${blue.domain}`);
    expect((await pruneDomains(domains, { signal })).unclear).toHaveLength(2);
    await expect(Repository.open({ store: lab.store, key: KEY, domain: "blue" })).rejects.toMatchObject({ code: "damaged" });
    await lab.store.put(`keys/${blue.domain}`, wrapped);
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
    const plain = await DomainLab.start();
    await plain.store.delete("config");
    for (const key of await plain.store.keys("")) await plain.store.delete(key);
    await Repository.init({ store: plain.store, key: null });
    await expect(Repository.open({ store: plain.store, key: null, domain: "blue" })).rejects.toMatchObject({ code: "invalid" });
  });

  test.each(["", "-a", "a/b", "ä", "x".repeat(64)])("%o is no name of a domain", async (name) => {
    const lab = await DomainLab.start();
    await expect(Repository.open({ store: lab.store, key: KEY, domain: name })).rejects.toMatchObject({ code: "invalid" });
    expect(await lab.store.keys("domains/")).toEqual([]);
  });

  test("where no key opens any domain, nothing is opened, and so nothing is kept up in silence", async () => {
    const lab = await DomainLab.start("default");
    const [at = ""] = await lab.store.keys("keys/");
    const key = await lab.store.get(at);
    await lab.store.delete(at);
    await expect(lab.domains()).rejects.toMatchObject({ code: "damaged", message: expect.stringContaining(at) as string });
    await lab.store.put(at, key);
    expect(await lab.restorable()).toEqual({ default: 2 });
  });

  test("hashes of the same granule in two domains differ, as their keys do", async () => {
    const lab = await DomainLab.start("default", "blue");
    const domains = await lab.domains();
    const text = randomBytes(64 * KiB);
    const [a, b] = domains.opened.map(({ keys }) => new FrameSealer(keys).hash(FrameKind.granule, text).toString("hex"));
    expect(a).not.toBe(b);
  });
});
