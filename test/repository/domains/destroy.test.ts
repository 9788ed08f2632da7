import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";

import { ThinstreamError } from "../../../src/lib/errors.ts";
import { type FaultRule, FaultyObjectStore } from "../../../src/objectstore/index.ts";
import { checkDomains, checkRepository, pruneDomains, Repository } from "../../../src/repository/index.ts";
import { KEY, take } from "../harness.ts";
import { HookedStore } from "../keys/hooked-store.ts";
import { withRing } from "../keys/rings.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { DomainLab } from "./lab.ts";

const signal = new AbortController().signal;
const NEW = Buffer.alloc(32, 21);
const PATIENCE = { timeout: 240_000 };
const read = { signal, level: "read", sample: 0 } as const;

/** Id, machines and packs of a domain. */
async function about(lab: DomainLab, name: string): Promise<{ id: string; vms: string[]; points: string[]; packs: string[] }> {
  const repository = (await lab.domains()).named(name);
  const points = (await repository.catalog.list()).points.map(({ id }) => id);
  const packs = await lab.store.keys(`packs/${repository.domain}/`);
  return { id: repository.domain, vms: [...new Set(points.map((id) => id.slice(0, 12)))], points, packs };
}

describe("a domain that is destroyed", () => {
  test(
    "is unreadable and nothing else is: all other objects are as they were, its own are said to be destroyed and not damaged",
    PATIENCE,
    async () => {
      const lab = await DomainLab.start("default", "blue", "red");
      const blue = await about(lab, "blue");
      const before = await lab.objectsBut(blue.id, blue.vms);
      await lab.destroy("blue");
      expect(await lab.objectsBut(blue.id, blue.vms)).toEqual(before);
      expect(await lab.restorable()).toEqual({ default: 2, red: 2 });
      const domains = await lab.domains();
      expect(domains.destroyed).toMatchObject([{ id: blue.id, name: "blue", machines: blue.vms }]);
      for (const id of blue.points) await expect(domains.holding(id)).rejects.toMatchObject({ code: "domain-destroyed" });
      expect(() => domains.named("blue")).toThrow("was destroyed");
      expect(await checkDomains(domains, read)).toMatchObject({ points: 4, findings: [], destroyed: [{ name: "blue", points: 2 }] });
      await expect(Repository.open({ store: lab.store, key: KEY, domain: "blue" })).rejects.toMatchObject({ code: "domain-destroyed" });
      expect(await lab.store.keys("keys/")).not.toContain(`keys/${blue.id}`);
      await withRing({ store: lab.store, key: KEY }, async (ring) => {
        expect((await ring.domains()).map(({ name, state, points }) => `${name} ${state} ${points}`).toSorted()).toEqual([
          "blue destroyed 2",
          "default whole 2",
          "red whole 2",
        ]);
        expect(await ring.destroyDomain("blue")).toMatchObject({ already: true });
        await expect(ring.destroyDomain("green")).rejects.toMatchObject({ code: "domain-unknown" });
        await expect(ring.exportDomain("blue")).rejects.toMatchObject({ code: "domain-unknown" });
      });
    },
  );

  test("goes from the bucket by the usual times, exactly its objects and no others", PATIENCE, async () => {
    const lab = await DomainLab.start("default", "blue");
    await pruneDomains(await lab.domains(), { signal });
    const blue = await about(lab, "blue");
    const others = await lab.objectsBut(blue.id, blue.vms);
    await lab.destroy("blue");
    lab.store.hours += 29;
    const early = await pruneDomains(await lab.domains(), { signal });
    expect(early).toMatchObject({ removed: { points: [], packs: 0 }, unclear: [], destroyed: [{ domain: "blue" }] });
    expect(early.waiting).toEqual([expect.objectContaining({ why: "destroyed", packs: blue.packs.length })]);
    lab.store.hours += 2;
    const dry = await pruneDomains(await lab.domains(), { signal, dryRun: true });
    expect(dry.removed.points.toSorted()).toEqual(blue.points.toSorted());
    expect((await about(lab, "default")).points).toHaveLength(2);
    expect((await lab.store.keys("points/")).length).toBe(4);
    expect((await pruneDomains(await lab.domains(), { signal })).removed).toMatchObject({ packs: 0 });
    expect(await lab.store.keys(`packs/${blue.id}/`)).toEqual(blue.packs);
    expect((await lab.store.keys("points/")).length).toBe(2);
    lab.store.hours += 30;
    expect((await pruneDomains(await lab.domains(), { signal })).removed).toMatchObject({ points: [], packs: blue.packs.length });
    const left: string[] = [];
    for (const key of await lab.store.keys("")) if (key.includes(blue.id) || blue.vms.some((vm) => key.includes(vm))) left.push(key);
    expect(left).toEqual([`destroyed/${blue.id}`]);
    expect(await lab.objectsBut(blue.id, blue.vms)).toEqual(others);
    expect(await lab.restorable()).toEqual({ default: 2 });
    expect(await checkDomains(await lab.domains(), read)).toMatchObject({ findings: [], destroyed: [{ points: 0 }] });
    await expect(lab.backup("blue", randomBytes(10))).rejects.toMatchObject({ code: "domain-destroyed" });
  });

  test("may be all there is: what is left says so, and prune frees it", PATIENCE, async () => {
    const lab = await DomainLab.start("default");
    await lab.destroy("default");
    expect(await lab.restorable()).toEqual({});
    await expect(Repository.open({ store: lab.store, key: KEY })).rejects.toMatchObject({ code: "domain-destroyed" });
    lab.store.hours += 61;
    await pruneDomains(await lab.domains(), { signal });
    expect(await lab.store.keys("packs/")).toEqual([]);
    await expect(Repository.open({ store: lab.store, key: KEY })).rejects.toMatchObject({ code: "domain-destroyed" });
    expect(await lab.store.keys("keys/")).toEqual([]);
  });

  test("is not destroyed while a point of it is held, and what is held later stays as it is", PATIENCE, async () => {
    const lab = await DomainLab.start("default", "blue");
    const blue = (await lab.domains()).named("blue");
    const [point] = (await blue.catalog.list()).points;
    await blue.catalog.hold(point!.id);
    await expect(lab.destroy("blue")).rejects.toMatchObject({ code: "point-held", message: expect.stringContaining(point!.id) as string });
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
    await blue.catalog.release(point!.id);
    await lab.destroy("blue");
    await blue.catalog.hold(point!.id);
    lab.store.hours += 100;
    const report = await pruneDomains(await lab.domains(), { signal });
    expect(report).toMatchObject({ removed: { packs: 0 }, destroyed: [{ held: [point!.id] }] });
  });

  test("looks lost where its tombstone was forged or spoiled: nothing of it is given up", PATIENCE, async () => {
    const lab = await DomainLab.start("default", "blue");
    const blue = await about(lab, "blue");
    await lab.store.put(`destroyed/${blue.id}`, randomBytes(200));
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
    const wrapped = await lab.store.get(`keys/${blue.id}`);
    await lab.store.delete(`keys/${blue.id}`);
    const domains = await lab.domains();
    expect([domains.destroyed, domains.lost.map(({ id }) => id)]).toEqual([[], [blue.id]]);
    lab.store.hours += 200;
    expect(await pruneDomains(domains, { signal })).toMatchObject({ removed: { packs: 0, points: [] }, unclear: [{}, {}] });
    await lab.store.put(`keys/${blue.id}`, wrapped);
    await lab.store.delete(`destroyed/${blue.id}`);
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
  });
});

describe("a domain that a list of keys leaves out", () => {
  /** Two domains, one of them with a tombstone that its destroyer never followed up, long ago. */
  async function announced(): Promise<{ lab: DomainLab; id: string }> {
    const lab = await DomainLab.start("default", "blue");
    await pruneDomains(await lab.domains(), { signal });
    const { id } = await about(lab, "blue");
    const dying = new FaultyObjectStore(lab.store, [{ operations: ["delete"], fault: { kind: "error-before", code: "access-denied" } }]);
    await expect(lab.destroy("blue", dying)).rejects.toMatchObject({ code: "access-denied" });
    expect((await lab.domains()).announced).toMatchObject([{ id }]);
    lab.store.hours += 100;
    return { lab, id };
  }

  test(
    "is whole though its destruction was announced: prune takes nothing of it, and it is read and checked as ever",
    PATIENCE,
    async () => {
      const { lab, id } = await announced();
      const before = await lab.store.keys("");
      lab.store.unlisted.add(`keys/${id}`);
      const domains = await lab.domains();
      expect(await pruneDomains(domains, { signal })).toMatchObject({ removed: { points: [], packs: 0 }, unclear: [], destroyed: [] });
      expect(await checkDomains(domains, read)).toMatchObject({ points: 4, findings: [], destroyed: [] });
      expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
      lab.store.unlisted.clear();
      expect(await lab.store.keys("")).toEqual(before);
    },
  );

  test("and whose key is back when prune comes to it, keeps everything", PATIENCE, async () => {
    const { lab, id } = await announced();
    const wrapped = await lab.store.get(`keys/${id}`);
    await lab.store.delete(`keys/${id}`);
    const domains = await lab.domains();
    expect(domains.destroyed).toMatchObject([{ id }]);
    await lab.store.put(`keys/${id}`, wrapped);
    const before = await lab.store.keys("");
    expect(await pruneDomains(domains, { signal })).toMatchObject({ removed: { points: [], packs: 0 } });
    expect(await lab.store.keys("")).toEqual(before);
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
  });

  test("is not destroyed either while a point is held whose hold is left out of a list", PATIENCE, async () => {
    const lab = await DomainLab.start("default", "blue");
    const [point = ""] = (await about(lab, "blue")).points;
    await (await lab.domains()).named("blue").catalog.hold(point);
    for (const key of await lab.store.keys("holds/")) lab.store.unlisted.add(key);
    await expect(lab.destroy("blue")).rejects.toMatchObject({ code: "point-held" });
    expect(await lab.restorable()).toEqual({ default: 2, blue: 2 });
  });

  test("loses no machine to another one that is destroyed meanwhile", PATIENCE, async () => {
    const lab = await DomainLab.start("default", "blue");
    const blue = await about(lab, "blue");
    lab.store.unlisted.add(`keys/${blue.id}`).add(`domains/${blue.id}`);
    await lab.destroy("default");
    lab.store.unlisted.clear();
    for (let i = 0; i < 3; i++) {
      lab.store.hours += 40;
      await pruneDomains(await lab.domains(), { signal });
    }
    expect(await lab.restorable()).toEqual({ blue: 2 });
    expect((await checkDomains(await lab.domains(), read)).findings).toEqual([]);
  });
});

const dead = (from: number): number[] => Array.from({ length: 200 }, (_, i) => from + i);
const faults: readonly (readonly [string, (step: number) => FaultRule])[] = [
  ["fails", (step) => ({ ordinals: [step], fault: { kind: "error-before", code: "unavailable" } })],
  ["is done and its answer lost", (step) => ({ ordinals: [step], fault: { kind: "error-after", code: "timeout" } })],
  ["is the last that is done", (step) => ({ ordinals: dead(step + 1), fault: { kind: "error-before", code: "unavailable" } })],
];

describe.each(faults)("a destruction any one step of which %s", (_name, ruleAt) => {
  test("leaves the domain whole or destroyed, every other as it was, and can be done to its end", PATIENCE, async () => {
    const original = await DomainLab.start("default", "blue");
    const blue = await about(original, "blue");
    const seen = { whole: 0, destroyed: 0 };
    for (let step = 1; ; step++) {
      const lab = await original.copy();
      const others = await lab.objectsBut(blue.id, blue.vms);
      const faulty = new FaultyObjectStore(lab.store, [ruleAt(step)]);
      const outcome: unknown = await lab.destroy("blue", faulty).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      if (faulty.injected.length === 0) break;
      if (outcome !== null) expect(outcome).toBeInstanceOf(ThinstreamError);
      const whole = (await lab.store.keys("keys/")).includes(`keys/${blue.id}`);
      if (outcome === null) expect(whole).toBe(false);
      expect(await lab.restorable(), `step ${step}: ${String(outcome)}`).toEqual(whole ? { default: 2, blue: 2 } : { default: 2 });
      expect((await checkRepository((await lab.domains()).named("default"), { signal })).findings).toEqual([]);
      expect(await lab.objectsBut(blue.id, blue.vms)).toEqual(others);
      seen[whole ? "whole" : "destroyed"]++;
      await lab.destroy("blue");
      expect((await lab.domains()).destroyed).toMatchObject([{ name: "blue", machines: blue.vms }]);
      expect(await lab.restorable()).toEqual({ default: 2 });
    }
    expect(seen.whole).toBeGreaterThan(5);
    expect(seen.destroyed).toBeGreaterThan(0);
  });
});

test(
  "a machine's first backup that goes on while its domain is destroyed, at any step of either, leaves no point that looks lost",
  PATIENCE,
  async () => {
    const original = await DomainLab.start("default", "blue");
    for (let step = 1, done = false; !done; step++) {
      const lab = await original.copy();
      const disk = new MemoryDisk("vda", 256 * 1024);
      disk.write(0, randomBytes(70_000));
      done = true;
      const hooked = new HookedStore(lab.store, async (ordinal) => {
        if (ordinal !== step) return;
        done = false;
        await lab.destroy("blue");
      });
      const outcome: unknown = await Repository.open({ store: hooked, key: KEY, domain: "blue" })
        .then(async (repository) => await take(repository, [disk], { vm: "new" }))
        .catch((thrown: unknown) => thrown);
      if (done) break;
      const domains = await lab.domains();
      const { points, unreadable } = await domains.list();
      expect([points.length, unreadable], `step ${step}: ${String(outcome)}`).toEqual([2, []]);
      lab.store.hours += 200;
      expect((await pruneDomains(domains, { signal })).unclear).toEqual([]);
      expect((await checkDomains(await lab.domains(), read)).findings).toEqual([]);
    }
    // And the other way round: a backup comes in between two steps of the destruction.
    for (let step = 1, done = false; !done; step++) {
      const lab = await original.copy();
      done = true;
      const hooked = new HookedStore(lab.store, async (ordinal) => {
        if (ordinal !== step) return;
        done = false;
        await lab
          .backup("blue", randomBytes(70_000), "new")
          .catch((thrown: unknown) => expect(thrown).toMatchObject({ code: "domain-destroyed" }));
      });
      await lab.destroy("blue", hooked);
      if (done) break;
      expect(await lab.restorable(), `step ${step}`).toEqual({ default: 2 });
      lab.store.hours += 200;
      expect((await pruneDomains(await lab.domains(), { signal })).unclear).toEqual([]);
    }
  },
);

test("a rotation beside a destruction that is refused, at any step, destroys nothing", PATIENCE, async () => {
  const original = await DomainLab.start("default", "blue");
  const [point = ""] = (await about(original, "blue")).points;
  for (let step = 1, done = false; !done; step++) {
    const lab = await original.copy();
    const { catalog } = (await lab.domains()).named("blue");
    done = true;
    // Somebody holds a point right after the tombstone was written.
    const holding = new HookedStore(lab.store, async () => {
      if ((await lab.store.keys("destroyed/")).length > 0) await catalog.hold(point);
    });
    const hooked = new HookedStore(lab.store, async (ordinal) => {
      if (ordinal !== step) return;
      done = false;
      const key = (await lab.store.keys("rotations/")).length === 1 ? NEW : KEY;
      const destroying = withRing({ store: holding, key }, async (ring) => await ring.destroyDomain("blue"));
      await expect(destroying).rejects.toMatchObject({ code: "point-held" });
    });
    await withRing({ store: hooked, key: KEY }, async (ring) => await ring.rotate({ key: NEW, slot: null })).catch((thrown: unknown) =>
      expect(thrown).toBeInstanceOf(ThinstreamError),
    );
    const now = (await lab.store.keys("rotations/")).length === 1 ? NEW : KEY;
    expect(await lab.restorable(now), `step ${step}`).toEqual({ default: 2, blue: 2 });
  }
});

test(
  "a rotation and a destruction at once, at any step: the domain is whole or destroyed, and the end of both is both",
  PATIENCE,
  async () => {
    const original = await DomainLab.start("default", "blue", "red");
    const blue = await about(original, "blue");
    for (let step = 1, done = false; !done; step++) {
      const lab = await original.copy();
      done = true;
      const hooked = new HookedStore(lab.store, async (ordinal) => {
        if (ordinal !== step) return;
        done = false;
        await lab
          .destroy("blue")
          .catch(async () => await withRing({ store: lab.store, key: NEW }, async (ring) => await ring.destroyDomain("blue")));
      });
      const outcome: unknown = await withRing(
        { store: hooked, key: KEY },
        async (ring) => await ring.rotate({ key: NEW, slot: null }),
      ).catch((thrown: unknown) => thrown);
      if (done) break;
      expect(await lab.store.keys("keys/"), `step ${step}: ${String(outcome)}`).not.toContain(`keys/${blue.id}`);
      const now = (await lab.store.keys("rotations/")).length === 1 ? NEW : KEY;
      expect(await lab.restorable(now), `step ${step}: ${String(outcome)}`).toEqual({ default: 2, red: 2 });
      expect((await lab.domains(now)).destroyed).toMatchObject([{ name: "blue" }]);
    }
  },
);
