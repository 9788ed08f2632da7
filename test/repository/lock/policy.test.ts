import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PutObjectRetentionCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { extendLocks, Repository } from "../../../src/repository/index.ts";
import { skipWithout } from "../../lab/index.ts";
import { underPolicy } from "../../lab/s3-admin.ts";
import { KEY } from "../harness.ts";
import { HOUR, LockedRepository, LockLab } from "./lab.ts";

const { signal } = new AbortController();

/** The policies that the documentation gives to writers and to who extends locks, for this bucket. */
function documentedPolicies(bucket: string): [writer: object, locker: object] {
  const page = readFileSync(join(import.meta.dirname, "../../../docs/retention.md"), "utf8");
  const [writer = "", locker = ""] = [...page.matchAll(/```json\n([^`]+)```/g)].map(([, policy]) => policy?.replaceAll("BUCKET", bucket));
  return [JSON.parse(writer) as object, JSON.parse(locker) as object];
}

describe.skipIf(skipWithout("s3"))("the policy that the documentation gives", () => {
  let lab: LockLab;
  beforeAll(async () => {
    lab = await LockLab.start();
  }, 120_000);
  afterAll(async () => await lab?.stop());

  async function as<T>(env: NodeJS.ProcessEnv, work: () => Promise<T>): Promise<T> {
    const before = { ...process.env };
    Object.assign(process.env, env);
    try {
      return await work();
    } finally {
      process.env = before;
    }
  }

  test("is enough to extend locks, and for nothing else; a writer cannot", async () => {
    const [writer, locker] = documentedPolicies(lab.s3.bucket);
    const repo = await LockedRepository.create(lab, 2);
    const [version] = await repo.versions("packs/");
    const extend = async (env: NodeJS.ProcessEnv, days: number): Promise<unknown> => {
      const client = lab.client(env);
      const Retention = { Mode: "GOVERNANCE", RetainUntilDate: new Date(Date.now() + days * 24 * HOUR) } as const;
      const place = { Bucket: lab.s3.bucket, Key: version?.Key, VersionId: version?.VersionId };
      return await client.send(new PutObjectRetentionCommand({ ...place, Retention })).finally(() => client.destroy());
    };
    const [asWriter, asLocker] = [await underPolicy(lab.s3, writer), await underPolicy(lab.s3, locker)];
    await expect(extend(asWriter, 1)).rejects.toThrow(/denied/i);
    await as(asWriter, async () => {
      const repository = await Repository.open({ store: lab.connect(repo.prefix), key: KEY });
      await expect(extendLocks(repository, { periodMs: 24 * HOUR, budget: 100, signal })).rejects.toMatchObject({ code: "access-denied" });
    });
    await as(asLocker, async () => {
      const store = lab.connect(repo.prefix);
      const repository = await Repository.open({ store, key: KEY });
      const report = await extendLocks(repository, { periodMs: 30 * 24 * HOUR, budget: 100, signal });
      expect(report).toMatchObject({ unlocked: 0, left: 0, overwritten: { objects: 0 } });
      expect(report.renewed).toBeGreaterThan(5);
      for (const key of ["config", `packs/${repository.domain}/00/x`, `prune/${repository.domain}/x`])
        await expect(store.put(key, Buffer.alloc(1))).rejects.toMatchObject({ code: "access-denied" });
      await expect(store.delete(`locks/${repository.domain}`)).rejects.toMatchObject({ code: "access-denied" });
    });
    await expect(extend(asLocker, 400)).rejects.toThrow(/denied/i);
    expect(await repo.destroy(version ?? {}), "not even the administrator").toBe(false);
  }, 120_000);
});
