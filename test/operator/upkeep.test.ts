import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BackupRepository, RestorePoint } from "../../src/api/index.ts";
import { parseStoreUrl, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { parseKeyFile, Repository } from "../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3 } from "../lab/index.ts";
import { take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { KillingProxy } from "./killing-proxy.ts";
import { conditionWhen, NAMESPACE, repositoryObjects, type Seen } from "./operator.ts";
import { Scene } from "./scene.ts";

const GRANULE = 65_536;
/** A task has its minute, its agent's start, and a busy machine. */
const MINUTES = 240_000;

describe.skipIf(skipWithout("cluster", "host", "s3"))("a repository that has schedules", { timeout: 900_000 }, () => {
  let scene: Scene;
  let s3: S3Lab;
  let store: S3ObjectStore;
  let repository: Repository;

  beforeAll(async () => {
    s3 = await startS3();
    scene = await Scene.start({ prefix: "upkeep", settings: { syncSeconds: 30 }, s3 });
    Object.assign(process.env, scene.repo.env);
    store = new S3ObjectStore(parseStoreUrl(scene.repo.url) as S3Location);
    repository = await Repository.open({ store, key: parseKeyFile(readFileSync(scene.repo.keyFile, "utf8")) });
    const disk = new MemoryDisk("vda", 16 * GRANULE);
    for (let i = 0; i < 3; i++) {
      disk.write(i * GRANULE, randomBytes(GRANULE));
      await take(repository, [disk], { vm: `${NAMESPACE}/web` });
    }
  });
  afterAll(async () => {
    await store?.close();
    await scene?.stop();
    await s3?.stop();
  });

  async function maintain(maintenance: object | null): Promise<void> {
    const patch = JSON.stringify({ spec: { maintenance } });
    await scene.plane.admin.kubectl(["patch", "bkrepo", "main", "--type=merge", "-p", patch]);
  }

  async function says(type: "Pruned" | "Sound" | "Locked", reason: string, name: string = "main"): Promise<Seen> {
    const subject = { kind: "bkrepo", name, type };
    return await conditionWhen(scene.plane.admin, subject, (condition) => condition.reason === reason, MINUTES);
  }

  async function status(): Promise<NonNullable<BackupRepository["status"]>> {
    return (await scene.plane.admin.get<BackupRepository>("bkrepo", "main")).status ?? {};
  }

  async function verified(): Promise<readonly (string | undefined)[]> {
    const { items } = await scene.plane.admin.get<{ items: readonly RestorePoint[] }>("rp", "-A");
    return items.map((point) => point.status?.conditions?.find(({ type }) => type === "Verified")?.reason);
  }

  test("says that nothing is done where there are none", async () => {
    expect(await says("Pruned", "NotScheduled")).toMatchObject({
      status: "Unknown",
      message: "what restore points no longer need stays in the bucket: set spec.maintenance.prune.schedule",
    });
    expect(await says("Sound", "NotScheduled")).toMatchObject({ status: "Unknown" });
  });

  test("is pruned and checked at its times, and shows what came of it", async () => {
    await maintain({ prune: { schedule: "* * * * *" }, check: { schedule: "* * * * *", samplePercent: 100 } });
    expect(await says("Pruned", "Pruned"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(await says("Sound", "NoDamageFound"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    const { prune, check } = await status();
    expect(prune).toMatchObject({
      packBytes: expect.any(Number),
      removedPoints: 0,
      removedBytes: 0,
      waitingBytes: 0,
      sparsePacks: 0,
      needlessBytes: 0,
    });
    expect([prune?.lastSuccessTime, Number(prune?.packs) > 0]).toEqual([prune?.lastAttemptTime, true]);
    expect(Date.parse(prune?.nextTime ?? "")).toBeGreaterThan(Date.parse(prune?.lastAttemptTime ?? ""));
    expect(check).toMatchObject({ level: "List", packs: prune?.packs, damagedPoints: 0 });
    expect(Number(check?.bytesRead)).toBeGreaterThan(3 * GRANULE);
    await scene.expectEvent("BackupRepository", "main", { reason: "Pruned", namespace: "default" });
    // What is well is not written on each of ten thousand restore points.
    expect(await verified()).toEqual([undefined, undefined, undefined]);
  });

  test("whose pack is lost says so, on each restore point that lacks it too, until a check finds it again", async () => {
    await expect.poll(async () => (await verified()).length, { timeout: MINUTES }).toBe(3);
    const [first] = (await repository.catalog.list()).points;
    const pack = first?.disks[0]?.root?.pack ?? "";
    let key = "";
    for await (const { key: at } of store.list("packs/")) if (at.endsWith(pack)) key = at;
    const bytes = await store.get(key);
    await store.delete(key);
    expect(await says("Sound", "DamageFound")).toMatchObject({ status: "False", message: expect.stringContaining(String(first?.id)) });
    await expect
      .poll(async () => (await verified()).filter((reason) => reason === "DamageFound").length, { timeout: MINUTES })
      .toBeGreaterThan(0);
    expect((await status()).check?.damagedPoints).toBeGreaterThan(0);
    await store.put(key, bytes);
    // A check by lists knows nothing of what one found that read.
    await maintain({ check: { samplePercent: 0 } });
    const message = async (): Promise<string> => (await says("Sound", "DamageFound")).message;
    await expect.poll(message, { timeout: MINUTES }).toContain("an earlier check found 1 restore points damaged");
    expect((await status()).check?.damagedPoints).toBe(1);
    // Nor do the checksums of all packs: they are the store's word.
    await maintain({ check: { level: "Checksum", samplePercent: 100 } });
    await expect
      .poll(message, { timeout: MINUTES })
      .toMatch(/the checksums of [1-9]\d* compared, nothing read; but an earlier check found 1 /);
    const { check } = await status();
    expect(check).toMatchObject({ level: "Checksum", comparedPacks: check?.packs, bytesRead: 0, damagedPoints: 1 });
    expect(await verified()).toContain("DamageFound");
    await maintain({ check: { level: "List" } });
    await says("Sound", "NoDamageFound");
    expect((await status()).check).not.toHaveProperty("comparedPacks");
    await expect.poll(verified, { timeout: MINUTES }).not.toContain("DamageFound");
  });

  test("of which a restore point cannot be read says that nothing may go", async () => {
    const [first] = (await repository.catalog.list()).points;
    let key = "";
    for await (const { key: at } of store.list("points/")) if (at.endsWith(String(first?.seq))) key = at;
    const bytes = await store.get(key);
    await store.put(key, randomBytes(bytes.length));
    expect(await says("Pruned", "NothingMayGo")).toMatchObject({
      status: "False",
      message: expect.stringMatching(/^no pack may go: of 1 /),
    });
    await store.put(key, bytes);
    await says("Pruned", "Pruned");
  });

  test("is pruned with the credentials of its maintenance, and with no others", async () => {
    await scene.plane.admin.kubectl(["-n", NAMESPACE, "create", "secret", "generic", "upkeep", "--from-literal=AWS_ACCESS_KEY_ID=nobody", "--from-literal=AWS_SECRET_ACCESS_KEY=nothing-at-all"]); // prettier-ignore
    await maintain({ credentialsSecretRef: { name: "upkeep" } });
    const { message } = await says("Pruned", "PruneFailed");
    expect(message, "what it may not").toMatch(/key|credential|denied|access/i);
    await scene.expectEvent("BackupRepository", "main", { reason: "PruneFailed", namespace: "default" });
    await says("Sound", "NoDamageFound");
    await maintain({ credentialsSecretRef: null });
  });

  test("has the locks extended of what is needed, or says that the bucket has none", async () => {
    await s3.createBucket("vault", { objectLock: true });
    const place = { ...scene.repo, url: scene.repo.url.replace(s3.bucket, "vault") };
    const lock = { schedule: "* * * * *", period: "168h" };
    const objects = repositoryObjects("vault", place).map((object) =>
      "spec" in object ? { ...object, spec: { ...(object.spec as object), maintenance: { lock } } } : object,
    );
    await scene.plane.admin.apply(objects);
    await maintain({ lock });
    expect(await says("Locked", "Locked", "vault"), scene.operator.log.slice(-3000)).toMatchObject({ status: "True" });
    const { status: vault } = await scene.plane.admin.get<BackupRepository>("bkrepo", "vault");
    // What every repository has, before its first restore point.
    expect(vault?.lock).toMatchObject({ exposed: 0, left: 0 });
    expect(Number(vault?.lock?.objects)).toBeGreaterThan(0);
    expect(Date.parse(vault?.lock?.soonest ?? "")).toBeGreaterThan(Date.now() + 4 * 86_400_000);
    expect(await says("Locked", "LockFailed")).toMatchObject({ status: "False", message: expect.stringContaining("has no Object Lock") });
    await maintain({ lock: null });
    await scene.plane.admin.kubectl(["delete", "bkrepo", "vault"]);
    await says("Locked", "NotScheduled");
  });

  test("is pruned once, whenever its controller dies", async () => {
    await maintain({ prune: null });
    await says("Pruned", "NotScheduled");
    await expect.poll(async () => await agents("prune"), { timeout: MINUTES }).toEqual([]);
    await scene.operator.stop();
    const proxy = await KillingProxy.start(scene.plane);
    const killed = Promise.withResolvers<void>();
    proxy.onWrite = ({ what, text }): boolean => {
      const isOurs = what === "POST pods" && text.includes("ts-prune-");
      if (isOurs) void scene.operator.stop("SIGKILL").then(killed.resolve);
      return isOurs;
    };
    await scene.operator.start(proxy.identity);
    const since = new Date();
    await maintain({ prune: { schedule: "* * * * *" } });
    await killed.promise;
    proxy.onWrite = () => false;
    await scene.operator.start(proxy.identity);
    await expect.poll(async () => new Date((await status()).prune?.lastSuccessTime ?? 0) > since, { timeout: MINUTES }).toBe(true);
    await maintain({ prune: null, check: null });
    await expect.poll(async () => [...(await agents("prune")), ...(await agents("check"))], { timeout: MINUTES }).toEqual([]);
    await proxy.stop();
  });

  async function agents(work: string): Promise<readonly string[]> {
    const found = await scene.plane.admin.kubectl(["get", "pods,secrets", "-A", "-l", `thinstream.dev/work=${work}`, "-o", "name"]);
    return found.split("\n").filter((line) => line !== "");
  }
});
