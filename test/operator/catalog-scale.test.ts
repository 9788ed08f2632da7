import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BackupRepository } from "../../src/api/index.ts";
import { repositories, restorePoints } from "../../src/controller/kinds.ts";
import { conditionOf } from "../../src/controller/said.ts";
import { connectKube, type KubeClient } from "../../src/kube/index.ts";
import { parseStoreUrl, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { parseKeyFile, Repository } from "../../src/repository/index.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { type AuditedRequest, ControlPlane, isWrite } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { commitHistories } from "../repository/light-writer.ts";
import { patience } from "../support/patience.ts";
import { applyCrds, NAMESPACE, Operator, repositoryObjects } from "./operator.ts";

/** `SOAK=1`: a catalog of 10,000 points, which takes minutes to be written; else a fifth of it. */
const MACHINES = process.env["SOAK"] === "1" ? 200 : 40;
const EACH = 50;
const POINTS = MACHINES * EACH;
const SHOWN_MS = 60_000;
/** MiB */
const MEMORY = 300;
/** Writes in ten seconds: what the controller's own limit lets through. */
const STORM = 600 + 10 * 300;

describe.skipIf(skipWithout("cluster", "host", "s3"))(`a new cluster with only a repository of ${POINTS} points`, () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let world: World;
  let repo: Repo;
  let client: KubeClient;
  let operator: Operator;

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("long");
    await fill(repo);
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    client = await connectKube({ kubeconfig: plane.admin.kubeconfig });
    await plane.admin.kubectl(["create", "namespace", NAMESPACE]);
    await applyCrds(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a"] });
    operator = new Operator(plane);
    await operator.start();
  }, 1_800_000);
  afterAll(async () => {
    client?.close();
    await operator?.stop();
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  const writes = (from: Date): AuditedRequest[] => plane.requests().filter((one) => one.user === "admin" && isWrite(one) && one.at >= from);
  const ofPoints = (all: readonly AuditedRequest[]): AuditedRequest[] => all.filter(({ resource }) => resource.startsWith("restorepoints"));

  async function shown(): Promise<number> {
    const { value } = await client.list(restorePoints, { limit: 1 }).next();
    return (value?.items.length ?? 0) + (value?.remaining ?? 0);
  }

  async function repository(): Promise<BackupRepository> {
    return await client.get(repositories, { name: "main" });
  }

  test("shows its catalog within a minute, with one write to make each restore point and one to say what holds of it", async () => {
    const from = new Date();
    await plane.admin.apply(repositoryObjects("main", repo));
    const applied = performance.now();
    await expect.poll(shown, { timeout: 1_200_000, interval: 200 }).toBe(POINTS);
    const seconds = (performance.now() - applied) / 1000;
    const mostTimes = patience();
    await expect.poll(async () => conditionOf(await repository(), "CatalogSynced")?.status, { timeout: 60_000 }).toBe("True");
    expect((await repository()).status?.usage).toMatchObject({ points: POINTS, machines: MACHINES });
    await expect.poll(() => ofPoints(writes(from)).length, { timeout: 600_000, interval: 1000 }).toBe(2 * POINTS);
    const all = (performance.now() - applied) / 1000;
    const found = writes(from);
    const { peak } = operator.memory();
    const most = busiest(found, 10_000);
    console.info(
      `${POINTS} points: shown after ${seconds.toFixed(1)} s, their conditions after ${all.toFixed(1)} s; ${found.length} writes, at most ${most} in 10 s; at most ${peak} MiB resident`,
    );
    expect(ofPoints(found).filter(({ verb, code }) => verb === "create" && code === 201)).toHaveLength(POINTS);
    expect(ofPoints(found).filter(({ verb, code }) => verb === "patch" && code === 200)).toHaveLength(POINTS);
    expect(most).toBeLessThanOrEqual(STORM);
    expect(peak).toBeLessThanOrEqual(MEMORY);
    expect(seconds * 1000).toBeLessThanOrEqual(SHOWN_MS * mostTimes);
  }, 1_800_000);

  test("read again, and by a controller that follows, it writes nothing of any restore point", async () => {
    const from = new Date();
    await operator.stop("SIGKILL");
    await operator.start();
    const synced = async (): Promise<number> => Date.parse((await repository()).status?.lastSyncTime ?? "");
    await expect.poll(synced, { timeout: 600_000, interval: 500 }).toBeGreaterThan(from.getTime());
    const found = writes(from).filter(({ resource }) => resource !== "leases");
    expect(ofPoints(found)).toEqual([]);
    expect(found.filter(({ resource }) => resource === "backuprepositories/status")).toHaveLength(1);
    // Of the agent that read it: its Secret and its pod.
    expect(found.length, found.map(({ verb, resource }) => `${verb} ${resource}`).join(", ")).toBeLessThanOrEqual(10);
    expect(await shown()).toBe(POINTS);
  }, 900_000);
});

/** Most requests in any stretch of so many milliseconds. */
function busiest(requests: readonly AuditedRequest[], ms: number): number {
  const times = requests.map(({ at }) => at.getTime()).toSorted((a, b) => a - b);
  let [most, first] = [0, 0];
  for (const [last, time] of times.entries()) {
    while (time - (times[first] ?? time) > ms) first += 1;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

async function fill({ url, keyFile, env }: Repo): Promise<void> {
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]) process.env[name] = env[name];
  const store = new S3ObjectStore(parseStoreUrl(url) as S3Location);
  const repository = await Repository.open({ store, key: parseKeyFile(readFileSync(keyFile, "utf8")) });
  const machines = Array.from({ length: MACHINES }, (_, place) => `shop/vm-${place}`);
  await commitHistories(repository, machines, EACH);
  await store.close();
}
