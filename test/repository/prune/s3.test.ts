import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { parseStoreUrl, type S3Location } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { prune, type PointRecord, Repository } from "../../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3 } from "../../lab/index.ts";
import { underPolicy } from "../../lab/s3-admin.ts";
import { KEY, newRepository, take } from "../harness.ts";
import { readDisk } from "../light-reader.ts";
import { MemoryDisk } from "../memory-disk.ts";
import { aged, inHours } from "./aged.ts";

const KiB = 1024;
const signal = new AbortController().signal;

/** The policy that the documentation gives to writers, for this bucket. */
function documentedPolicy(bucket: string): object {
  const page = readFileSync(join(import.meta.dirname, "../../../docs/retention.md"), "utf8");
  const [, policy = ""] = /```json\n([^`]+)```/.exec(page) ?? [];
  return JSON.parse(policy.replaceAll("BUCKET", bucket)) as object;
}

describe.skipIf(skipWithout("s3"))("prune on S3", () => {
  let lab: S3Lab;
  beforeAll(async () => {
    lab = await startS3();
    Object.assign(process.env, lab.env);
  }, 120_000);
  afterAll(async () => await lab?.stop());

  const connect = (prefix: string): S3ObjectStore => new S3ObjectStore(parseStoreUrl(lab.url(prefix)) as S3Location);

  async function as<T>(env: NodeJS.ProcessEnv, work: () => Promise<T>): Promise<T> {
    const before = { ...process.env };
    Object.assign(process.env, env);
    try {
      return await work();
    } finally {
      process.env = before;
    }
  }

  test("writers that may not delete back up, restore and forget; they cannot prune, nor tell prune what to remove", async () => {
    const prefix = `cluster/${randomBytes(4).toString("hex")}`;
    const disk = new MemoryDisk("vda", 1024 * KiB);
    const points: PointRecord[] = [];
    const admin = connect(prefix);
    await newRepository(admin);
    await as(await underPolicy(lab, documentedPolicy(lab.bucket)), async () => {
      const store = connect(prefix);
      const repository = await Repository.open({ store, key: KEY });
      for (let i = 0; i < 3; i++) {
        disk.write(i * 192 * KiB, randomBytes(256 * KiB));
        points.push(await take(repository, [disk]));
        disk.checkpoint();
      }
      await repository.catalog.forget(points[0]!.id);
      expect((await readDisk(repository, points[2]!)).equals(disk.bytes)).toBe(true);
      await expect(prune(await Repository.open({ store: aged(store, 40), key: KEY }), { signal })).rejects.toMatchObject({
        code: "access-denied",
      });
      const { domain } = repository;
      const refused = [
        `usage/${domain}/x`,
        `prune/${domain}/x`,
        `sparse/${domain}/x`,
        `locks/${domain}`,
        `keys/${domain}`,
        `domains/${domain}`,
        `destroyed/${domain}`,
        "slots/x",
        "rotations/x",
      ];
      for (const key of [...refused, `packs/${domain}/00/x`]) {
        const put = store.put(key, randomBytes(8));
        if (key.startsWith("packs/")) await put;
        else await expect(put).rejects.toMatchObject({ code: "access-denied" });
      }
      await expect(store.delete(`packs/${domain}/00/x`)).rejects.toMatchObject({ code: "access-denied" });
      await store.close();
    });
    const packs = async (): Promise<number> => {
      let count = 0;
      for await (const _ of admin.list("packs/")) count += 1;
      return count;
    };
    const before = await packs();
    const first = await prune(await Repository.open({ store: aged(admin, 40), key: KEY }), { signal });
    expect(first).toMatchObject({ removed: { points: [points[0]!.id], packs: 0 }, waiting: [{ why: "marked" }], unclear: [] });
    const repository = await Repository.open({ store: inHours(aged(admin, 40), 31), key: KEY });
    const second = await prune(repository, { signal });
    expect(second.removed.packs).toBe(first.waiting[0]!.packs);
    expect(await packs()).toBe(before - second.removed.packs);
    expect((await readDisk(repository, points[2]!)).equals(disk.bytes)).toBe(true);
    await admin.close();
  }, 120_000);
});
