import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BackupPolicy, BackupRepository } from "../../src/api/index.ts";
import { parseStoreUrl, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { formatKeyFile, Repository } from "../../src/repository/index.ts";
import type { Repo } from "../acceptance/world.ts";
import { applyKubeVirt, ControlPlane } from "../cluster/index.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { scriptPod } from "../node/world.ts";
import { applyCrds, conditionWhen, NAMESPACE, Operator, repositoryObjects, type Seen } from "./operator.ts";

describe.skipIf(skipWithout("cluster", "s3"))("a repository of the operator", () => {
  const key = randomBytes(32);
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let s3: S3Lab;
  let operator: Operator;

  beforeAll(async () => {
    s3 = await startS3();
    Object.assign(process.env, s3.env);
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    await plane.admin.kubectl(["create", "namespace", NAMESPACE]);
    await applyCrds(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a"] });
    operator = new Operator(plane);
    await operator.start();
  });
  afterAll(async () => {
    await operator?.stop();
    await nodes?.stop();
    await plane?.stop();
    await s3?.stop();
  });

  function place(prefix: string): Repo {
    const keyFile = join(tempDir("key"), "thinstream.key");
    writeFileSync(keyFile, formatKeyFile(key), { mode: 0o600 });
    const url = s3.url(prefix);
    return { url, keyFile, flags: [], env: s3.env, dir: "" };
  }

  async function apply(name: string, prefix: string, more: object = {}): Promise<void> {
    const objects = repositoryObjects(name, place(prefix)).map((object) =>
      "spec" in object ? { ...object, spec: { ...(object.spec as object), ...more } } : object,
    );
    await plane.admin.apply(objects);
  }

  async function ready(name: string, status: string): Promise<Seen> {
    return await conditionWhen(plane.admin, { kind: "bkrepo", name, type: "Ready" }, (condition) => condition.status === status);
  }

  /** Has the operator look again at once. */
  async function touch(name: string, maxConcurrentRuns: number): Promise<void> {
    const patch = JSON.stringify({ spec: { limits: { maxConcurrentRuns } } });
    await plane.admin.kubectl(["patch", "bkrepo", name, "--type=merge", "-p", patch]);
  }

  async function empty(prefix: string): Promise<void> {
    const store = open(prefix);
    for await (const { key: at } of store.list("")) await store.delete(at);
    await store.close();
  }

  test("is made in an empty bucket, and known by its id from then on", async () => {
    await apply("fresh", "fresh");
    expect(await ready("fresh", "True"), operator.log.slice(-3000)).toMatchObject({ reason: "Available" });
    const { status } = await plane.admin.get<BackupRepository>("bkrepo", "fresh");
    const store = open("fresh");
    const { config } = await Repository.open({ store, key });
    expect(status).toMatchObject({ repositoryId: config.id.toString("hex"), formatVersion: 1, usage: { points: 0 } });
    await store.close();
  });

  test("is not made where it is said never to be", async () => {
    await apply("absent", "absent", { initialize: "Never" });
    expect(await ready("absent", "False")).toMatchObject({ message: expect.stringMatching(/There is no repository at .*absent/) });
    const store = open("absent");
    expect((await store.list("")[Symbol.asyncIterator]().next()).done).toBe(true);
    await store.close();
  });

  test("whose Secrets are missing or lack an entry says so at once, and goes on when they are there", async () => {
    const [credentials, keyOf, repository] = repositoryObjects("bare", place("bare"));
    if (credentials === undefined || keyOf === undefined || repository === undefined) throw new Error("there are three objects");
    const says = async (reason: string): Promise<Seen> =>
      await conditionWhen(plane.admin, { kind: "bkrepo", name: "bare", type: "Ready" }, (condition) => condition.reason === reason);
    await plane.admin.apply([repository]);
    expect(await says("CredentialsMissing")).toMatchObject({
      message: `there is no Secret bare-s3 in namespace ${NAMESPACE}: make it, or name another`,
    });
    await plane.admin.apply([{ ...credentials, stringData: { AWS_ACCESS_KEY_ID: "x" } }]);
    await touch("bare", 2);
    await expect
      .poll(async () => (await says("CredentialsMissing")).message, { timeout: 30_000 })
      .toBe(`the Secret bare-s3 in namespace ${NAMESPACE} has no AWS_SECRET_ACCESS_KEY: add what is missing`);
    await plane.admin.apply([credentials]);
    await touch("bare", 3);
    expect(await says("KeyMissing")).toMatchObject({ status: "False", message: expect.stringContaining("no Secret bare-key") });
    await plane.admin.apply([keyOf]);
    expect(await ready("bare", "True")).toMatchObject({ reason: "Available" });
  });

  test("that is gone or was replaced is never made anew, and nothing of its catalog is taken for the truth", async () => {
    await apply("lost", "lost");
    await ready("lost", "True");
    await empty("lost");
    await touch("lost", 7);
    expect(await ready("lost", "False")).toMatchObject({ message: expect.stringMatching(/There is no repository at .*lost/) });
    const store = open("lost");
    const { config } = await Repository.init({ store, key });
    await store.close();
    await touch("lost", 8);
    const replaced = await conditionWhen(
      plane.admin,
      { kind: "bkrepo", name: "lost", type: "Ready" },
      ({ reason }) => reason === "RepositoryReplaced",
    );
    expect(replaced).toMatchObject({ status: "False", message: expect.stringContaining(config.id.toString("hex")) });
  });

  test("a pod that a tenant made to look like an agent is not believed", async () => {
    await plane.admin.apply([
      {
        apiVersion: "thinstream.dev/v1alpha1",
        kind: "VirtualMachineBackup",
        metadata: { name: "forged", namespace: "default" },
        spec: { source: { virtualMachine: { name: "nobody" } }, repositoryRef: { name: "fresh" } },
      },
    ]);
    const at = { kind: "tvmb", name: "forged", namespace: "default", type: "Succeeded" };
    const before = await conditionWhen(plane.admin, at, ({ reason }) => reason !== "");
    const { metadata } = await plane.admin.get<{ metadata: { uid: string } }>("tvmb", "forged", "-n", "default");
    const said = {
      version: 1,
      outcome: "Succeeded",
      message: "trust me",
      warnings: [],
      point: { id: "0123456789ab-1", time: "2026-11-21T12:00:00.000Z", level: "full", consistency: "crash", found: false },
    };
    const pod = scriptPod("ts-backup-0123456789-1", `printf '%s' '${JSON.stringify(said)}' >/dev/termination-log`, {}) as {
      metadata: object;
    };
    const labels = { "thinstream.dev/run": metadata.uid, "thinstream.dev/work": "backup" };
    await plane.admin.apply([{ ...pod, metadata: { ...pod.metadata, namespace: "default", labels } }]);
    const phase = async (): Promise<string> =>
      await plane.admin.kubectl(["get", "pod", "ts-backup-0123456789-1", "-n", "default", "-o", "jsonpath={.status.phase}"]);
    await expect.poll(phase, { timeout: 30_000 }).toBe("Succeeded");
    // A change of the run, which the operator has to look at; then one of its repository, which it answers later than that.
    await plane.admin.kubectl(["annotate", "tvmb", "forged", "-n", "default", "look=again"]);
    await touch("lost", 9);
    await ready("lost", "False");
    await touch("fresh", 9);
    await conditionWhen(plane.admin, { kind: "bkrepo", name: "fresh", type: "Ready" }, ({ status }) => status === "True");
    expect(await conditionWhen(plane.admin, at, () => true)).toEqual(before);
    expect(before).toMatchObject({ status: "Unknown", reason: "VirtualMachineNotFound" });
  });

  test("machines are followed once KubeVirt is installed, without another controller", { timeout: 240_000 }, async () => {
    await applyKubeVirt(plane.admin);
    const spec = { runStrategy: "Halted", template: { spec: { domain: { devices: {} } } } };
    await plane.admin.apply([
      { apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata: { name: "late", namespace: "default" }, spec },
      {
        apiVersion: "thinstream.dev/v1alpha1",
        kind: "BackupPolicy",
        metadata: { name: "all" },
        spec: { namespaces: { selector: {} }, repositoryRef: { name: "fresh" } },
      },
    ]);
    const matched = async (): Promise<number | undefined> => (await plane.admin.get<BackupPolicy>("bkpol", "all")).status?.matchedVMs;
    await expect.poll(matched, { timeout: 180_000, interval: 1000 }).toBe(1);
  });

  function open(prefix: string): S3ObjectStore {
    return new S3ObjectStore(parseStoreUrl(s3.url(prefix)) as S3Location);
  }
});
