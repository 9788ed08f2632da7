import { describe, expect, test } from "vitest";

import {
  checkDomains,
  DomainCredential,
  KeyRing,
  parseDomainKeyFile,
  parseKeyFile,
  pruneDomains,
  Repository,
} from "../../../src/repository/index.ts";
import { formatDomainKeyFile } from "../../../src/repository/format/key-file.ts";
import { KEY } from "../harness.ts";
import { withRing } from "../keys/rings.ts";
import { DomainLab } from "./lab.ts";

const signal = new AbortController().signal;
const NEW = Buffer.alloc(32, 21);

describe("a tenant's key", () => {
  test("lists, restores and checks its domain's points, and opens nothing else", async () => {
    const lab = await DomainLab.start("default", "blue", "red");
    const others = (await (await lab.domains()).list()).points.filter(({ domain }) => domain.label !== "blue").map(({ point }) => point.id);
    expect(others).toHaveLength(4);
    const key = await lab.tenantKey("blue");
    expect(await lab.restorable(key)).toEqual({ blue: 2 });
    const domains = await lab.domains(key);
    for (const level of ["list", "read"] as const)
      expect(await checkDomains(domains, { signal, level, sample: 0 })).toMatchObject({ points: 2, findings: [] });
    for (const id of others) {
      await expect(domains.holding(id)).rejects.toMatchObject({ code: "wrong-key" });
      await expect(domains.named("blue").catalog.point(id)).rejects.toMatchObject({ code: "damaged" });
    }
    expect(() => domains.named("red")).toThrow("no domain red that this key opens");
    const refused = { code: "wrong-key", message: expect.stringContaining("does nothing else") as string };
    await expect(Repository.open({ store: lab.store, key })).rejects.toMatchObject(refused);
    await expect(KeyRing.open({ store: lab.store, key, signal })).rejects.toMatchObject(refused);
    await expect(pruneDomains(domains, { signal })).rejects.toMatchObject(refused);
  });

  test("sees damage of its own points as damage", async () => {
    const lab = await DomainLab.start("default", "blue");
    const key = await lab.tenantKey("blue");
    const [, second] = (await (await lab.domains(key)).list()).points;
    const at = `points/${second!.point.id.slice(0, 12)}/0000000002`;
    await lab.store.put(at, Buffer.from("rubbish"));
    const { points, unreadable } = await (await lab.domains(key)).list();
    expect([points.length, unreadable.map(({ id }) => id)]).toEqual([1, [second!.point.id]]);
  });

  test("of another repository, of another domain, mistyped or beside a changed object: each is told apart from the other", async () => {
    const lab = await DomainLab.start("default", "blue");
    const other = await DomainLab.start("default", "blue");
    const [mine, theirs] = [await lab.tenantKey("blue"), await other.tenantKey("blue")];
    const said = async (key: DomainCredential): Promise<unknown> => await lab.domains(key).catch((thrown: unknown) => thrown);
    expect(await said(theirs)).toMatchObject({ code: "wrong-key", message: expect.stringContaining("another repository") as string });
    const mixed = new DomainCredential({ ...mine.key, key: theirs.key.key });
    expect(await said(mixed)).toMatchObject({ code: "wrong-key", message: expect.stringContaining("not that of the domain") as string });
    const red = new DomainCredential({ ...mine.key, domain: "00000000" });
    expect(await said(red)).toMatchObject({ code: "damaged", message: expect.stringContaining("domains/00000000 is missing") as string });
    // The repository's own key of another repository, and a domain key that somebody changed.
    await expect(lab.domains(Buffer.alloc(32, 9))).rejects.toMatchObject({
      code: "wrong-key",
      message: expect.stringContaining("not the repository's") as string,
    });
    const at = `keys/${mine.key.domain}`;
    const wrapped = Buffer.from(await lab.store.get(at));
    wrapped[30] = (wrapped[30] ?? 0) ^ 1;
    await lab.store.put(at, wrapped);
    expect((await lab.domains()).lost).toMatchObject([{ id: mine.key.domain, error: { code: "damaged" } }]);
    await expect(Repository.open({ store: lab.store, key: KEY, domain: "blue" })).rejects.toMatchObject({ code: "damaged" });
    expect(await lab.restorable(mine)).toEqual({ blue: 2 });
  });

  test("is not ended by a rotation, and opens what is in the bucket yet of a domain that was destroyed", async () => {
    const lab = await DomainLab.start("default", "blue");
    const key = await lab.tenantKey("blue");
    await withRing({ store: lab.store, key: KEY }, async (ring) => await ring.rotate({ key: NEW, slot: null }));
    expect(await lab.restorable(key)).toEqual({ blue: 2 });
    await withRing({ store: lab.store, key: NEW }, async (ring) => await ring.destroyDomain("blue"));
    expect(await lab.restorable(key)).toEqual({ blue: 2 });
    lab.store.hours += 61;
    await pruneDomains(await lab.domains(NEW), { signal });
    await expect(lab.domains(key)).rejects.toMatchObject({ code: "damaged", message: expect.stringContaining("was destroyed") as string });
  });

  test("its file is one line that no program takes for the repository's key, and a wrong digit is found", async () => {
    const lab = await DomainLab.start("default");
    const file = (await lab.tenantKey("default")).key;
    const line = formatDomainKeyFile(file);
    expect(line).toMatch(/^thinstream-domain-key-1 [0-9a-f]{32} [0-9a-f]{8} [0-9a-f]{64} [0-9a-f]{8}\n$/);
    expect(parseDomainKeyFile(line)).toEqual(file);
    expect(() => parseKeyFile(line)).toThrow("does not hold a Thinstream key");
    expect(parseDomainKeyFile(`thinstream-key-1 ${"0".repeat(64)} 00000000`)).toBeNull();
    for (let at = 24; at < line.length - 1; at++) {
      const digit = line[at] === "0" ? "1" : "0";
      expect(() => parseDomainKeyFile(line.slice(0, at) + digit + line.slice(at + 1)), `at ${at}`).toThrow(/typing error/);
    }
    expect(await lab.restorable(new DomainCredential(file))).toEqual({ default: 2 });
  });
});

test("a rotation seals the keys of all domains anew, and the new key opens all of them", async () => {
  const lab = await DomainLab.start("default", "blue", "red");
  await lab.destroy("red");
  const report = await withRing({ store: lab.store, key: KEY }, async (ring) => await ring.rotate({ key: NEW, slot: null }));
  expect(report).toMatchObject({ domains: 2 });
  expect(await lab.restorable(NEW)).toEqual({ default: 2, blue: 2 });
  expect((await lab.domains(NEW)).destroyed).toMatchObject([{ name: "red" }]);
  await expect(lab.domains()).rejects.toMatchObject({ code: "wrong-key" });
});
