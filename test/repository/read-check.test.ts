import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";

import { checkListed, checkRepository, Codec, type Repository } from "../../src/repository/index.ts";
import { restore, take } from "./harness.ts";
import { PruneLab } from "./prune/lab.ts";

const { signal } = new AbortController();
const PATIENCE = { timeout: 60_000 };

async function packKeys({ store, repository }: PruneLab): Promise<string[]> {
  return await store.keys(`packs/${repository.domain}/`);
}

/** What reading all of the packs that are needed finds, asked for as a whole and as a sample. */
async function findings(repository: Repository): Promise<readonly string[][]> {
  const [whole, sample] = [await checkRepository(repository, { signal }), await checkListed(repository, { signal, sample: 100 })];
  return [whole, sample].map((report) => report.findings.map(({ what }) => what));
}

test("a pack with the name of another of its run is damage, though every frame in it opens", PATIENCE, async () => {
  const lab = await PruneLab.start();
  const point = await lab.backup();
  const [data = "", map = ""] = await packKeys(lab);
  const other = Buffer.from(await lab.store.get(map));
  // The header is under no seal: who puts a pack elsewhere can have it say so.
  other.write(data.slice(-32), 4, "hex");
  await lab.store.put(data, other);
  await expect(restore(lab.repository, point, "vda")).rejects.toMatchObject({ code: "damaged" });
  const report = await checkRepository(lab.repository, { signal });
  expect(report.findings).toMatchObject([
    { what: data, reason: expect.stringMatching(/another pack of the same run/) as string, points: [point.id] },
  ]);
  expect(report.findings[0]?.places[0]).toMatchObject({ vm: "vm", name: "vda" });
});

test.each([Codec.none, Codec.lz4, Codec.zstd])(
  "a damaged piece of a captured file shows also where packs are drawn (codec %i)",
  PATIENCE,
  async (codec) => {
    const lab = await PruneLab.start();
    const captures = { "domain.xml": Buffer.from("<domain/>".repeat(50_000)), nvram: randomBytes(3000), tiny: Buffer.from("x") };
    const point = await take(lab.repository, [lab.disk], { captures, codec });
    expect(await findings(lab.repository)).toEqual([[], []]);
    for (const { name, pieces } of point.captures) {
      for (const { pack, offset, length } of pieces) {
        const key = `packs/${lab.repository.domain}/${pack.slice(0, 2)}/${pack}`;
        const good = await lab.store.get(key);
        for (const at of [offset, offset + 5, offset + length - 1]) {
          const bad = Buffer.from(good);
          bad[at] = (bad[at] ?? 0) ^ 1;
          await lab.store.put(key, bad);
          const { findings: found } = await checkListed(lab.repository, { signal, sample: 100 });
          expect(found, `${name} at ${at}`).toMatchObject([{ what: key, points: [point.id], places: [{ name }] }]);
        }
        await lab.store.put(key, good);
      }
    }
  },
);

test("a held point is read, also where it was forgotten", PATIENCE, async () => {
  const lab = await PruneLab.start();
  const [held, other] = [await lab.backup(), await lab.backup()];
  await lab.forget(held);
  await lab.repository.catalog.hold(held.id);
  expect(await checkRepository(lab.repository, { signal })).toMatchObject({ points: 2, findings: [] });
  const [key = ""] = (await packKeys(lab)).filter((one) => one.includes(held.run));
  await lab.store.delete(key);
  const report = await checkRepository(lab.repository, { signal });
  expect(report.findings.flatMap(({ points }) => points)).toContain(held.id);
  const [point = ""] = await lab.store.keys(`points/${held.id.slice(0, 12)}/`);
  await lab.store.put(point, randomBytes(200));
  expect((await checkRepository(lab.repository, { signal })).findings.map(({ what }) => what)).toContain(`point ${held.id}`);
  expect(other.id).not.toBe(held.id);
});

test("a held point that somebody forgot and deleted is missed, and no other that is gone", PATIENCE, async () => {
  const lab = await PruneLab.start();
  const [held, gone] = [await lab.backup(), await lab.backup(), await lab.backup()];
  await lab.repository.catalog.hold(held.id);
  for (const { id, seq } of [held, gone]) {
    const place = `${id.slice(0, 12)}/${String(seq).padStart(10, "0")}`;
    // By hand: `forget` refuses a held point.
    await lab.store.put(`forgotten/${place}`, new Uint8Array(0));
    await lab.store.delete(`points/${place}`);
  }
  expect(await findings(lab.repository)).toEqual([[`point ${held.id}`], [`point ${held.id}`]]);
  await lab.repository.catalog.release(held.id);
  expect(await findings(lab.repository)).toEqual([[], []]);
});
