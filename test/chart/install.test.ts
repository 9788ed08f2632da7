import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ControlPlane, type Identity } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { chart, image, valuesFile } from "./chart.ts";

const NAMESPACE = "thinstream-system";
const DEFINITION = "thinstream.dev/definition";
const s3 = { endpoint: "http://127.0.0.1:9", bucket: "backups", credentialsSecretRef: { name: "bucket" } };
const main = { s3, encryption: { keySecretRef: { name: "key" } } };
const nightly = {
  schedule: "15 2 * * *",
  timeZone: "Europe/Paris",
  repositoryRef: { name: "main" },
  retention: { keepDaily: 7 },
  rpo: "24h",
};
/** No controller: what is looked at here is what the API server has. */
const base = { ...image, controller: { replicas: 0 } };

interface Crd {
  readonly metadata: { readonly uid: string; readonly annotations: Readonly<Record<string, string>> };
  readonly spec: { readonly names: { readonly shortNames: readonly string[] }; readonly versions: readonly object[] };
}
interface Named {
  readonly metadata: { readonly name: string; readonly uid: string; readonly creationTimestamp: string };
  readonly spec: Readonly<Record<string, unknown>>;
}

describe.skipIf(skipWithout("cluster", "host"))("helm, on a real API server", () => {
  let plane: ControlPlane;
  let admin: Identity;
  let nodes: NodeSimulator;
  beforeAll(async () => {
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    admin = plane.admin;
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a"] });
  });
  afterAll(async () => {
    await nodes?.stop();
    await plane?.stop();
  });

  const release = async (verb: "install" | "upgrade", values: object, ...more: readonly string[]): Promise<string> =>
    await admin.helm([verb, "thinstream", chart, "-n", NAMESPACE, "-f", valuesFile({ ...base, ...values }), "--timeout", "3m", ...more], {
      timeoutMs: 240_000,
    });
  const crd = async (name: string): Promise<Crd> => await admin.get<Crd>("crd", `${name}.thinstream.dev`);
  const names = async (kind: string): Promise<string[]> =>
    (await admin.get<{ items: Named[] }>(kind)).items.map(({ metadata }) => metadata.name);
  const fileOf = (name: string): string => readFileSync(join(chart, `crds/thinstream.dev_${name}.yaml`), "utf8");
  /** A definition as Helm installed it for an older chart. */
  const leaveOld = async (name: string, age: (text: string) => string): Promise<void> => {
    const text = age(fileOf(name).replace(/(thinstream.dev\/definition: ).*/, '$1"0000000000000000"'));
    expect(text).not.toBe(fileOf(name));
    await admin.kubectl(["apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-f", "-"], { input: text });
  };
  const jobs = (): string[] =>
    plane
      .requests()
      .filter(({ resource, code }) => resource === "jobs" && code === 201)
      .map(({ resource }) => resource);

  test("one install on an empty cluster brings the kinds, and repositories and policies of those kinds", async () => {
    const said = await release("install", { repositories: { main }, policies: { nightly } }, "--create-namespace");
    expect(said).toContain("pod-security.kubernetes.io/enforce=privileged");
    expect(said).toContain("main: bucket, key");
    expect(await names("bkrepo")).toEqual(["main"]);
    expect((await admin.get<Named>("bkpol", "nightly")).spec).toMatchObject({ ...nightly, runsHistoryLimit: 5 });
    expect(jobs()).toEqual([]);
  });

  test("an upgrade changes them in place, without a Job where the kinds are the same", async () => {
    const before = await admin.get<Named>("bkpol", "nightly");
    await release("upgrade", {
      repositories: { main },
      policies: { nightly: { ...nightly, rpo: "12h" }, weekly: { ...nightly, schedule: "@weekly" } },
    });
    const after = await admin.get<Named>("bkpol", "nightly");
    expect(after.metadata.uid).toBe(before.metadata.uid);
    expect(after.spec["rpo"]).toBe("12h");
    expect(await names("bkpol")).toEqual(["nightly", "weekly"]);
    expect(jobs()).toEqual([]);
  });

  test("what the API server's own rules refuse fails with its sentence, and changes nothing", async () => {
    const refused = release("upgrade", { repositories: { main: { ...main, s3: { ...s3, bucket: "other" } } }, policies: { nightly } });
    await expect(refused).rejects.toThrow(/bucket and prefix cannot be changed: make a new BackupRepository instead/);
    expect((await admin.get<Named>("bkrepo", "main")).spec).toMatchObject({ s3: { bucket: "backups" } });
  });

  test("a newer chart's upgrade brings the kinds up to date first: changed ones and new ones, keeping every object", async () => {
    const kept = await crd("backuppolicies");
    const policy = await admin.get<Named>("bkpol", "nightly");
    // As an older version's install left them: another schema, a field that is no more, and one kind not thought of yet.
    await leaveOld("backuppolicies", (text) =>
      text.replaceAll("- bkpol", "- oldname").replace("                rpo:\n", "                abandoned:\n"),
    );
    await admin.kubectl(["delete", "crd", "restorerequests.thinstream.dev", "--wait=false"]);
    await expect.poll(async () => await names("crd"), { timeout: 60_000 }).not.toContain("restorerequests.thinstream.dev");
    await release("upgrade", { repositories: { main }, policies: { nightly: { ...nightly, rpo: "6h" } } });
    const now = await crd("backuppolicies");
    const file = parse(fileOf("backuppolicies")) as Crd;
    expect(now.metadata.uid).toBe(kept.metadata.uid);
    expect(now.metadata.annotations[DEFINITION]).toBe(file.metadata.annotations[DEFINITION]);
    expect(now.spec.names.shortNames).toEqual(["bkpol"]);
    expect(now.spec.versions).toEqual(kept.spec.versions);
    await crd("restorerequests");
    const after = await admin.get<Named>("bkpol", "nightly");
    expect(after.metadata.uid).toBe(policy.metadata.uid);
    expect(after.spec["rpo"]).toBe("6h");
    expect(jobs()).toHaveLength(1);
    // Its rights went with it.
    const left = await admin.kubectl(["get", "job,sa,clusterrole,clusterrolebinding", "-A", "-o", "name"]);
    expect(left.split("\n").filter((name) => name.endsWith("-crds"))).toEqual([]);
  });

  test("uninstall leaves the kinds, repositories and policies; the next install takes them over", async () => {
    const before = await admin.get<Named>("bkpol", "nightly");
    await admin.helm(["uninstall", "thinstream", "-n", NAMESPACE]);
    expect(await names("bkpol")).toEqual(["nightly", "weekly"]);
    expect(await names("bkrepo")).toEqual(["main"]);
    expect((await names("crd")).filter((name) => name.endsWith(".thinstream.dev"))).toHaveLength(5);
    expect((await admin.kubectl(["get", "deploy,sa,cm", "-n", NAMESPACE, "-o", "name"])).includes("thinstream")).toBe(false);
    await release("install", { repositories: { main }, policies: { nightly } });
    expect((await admin.get<Named>("bkpol", "nightly")).metadata.uid).toBe(before.metadata.uid);
    expect(jobs()).toHaveLength(1);
  });

  test("an install over what an older release left brings the kinds up to date too", async () => {
    await admin.helm(["uninstall", "thinstream", "-n", NAMESPACE]);
    await leaveOld("restorepoints", (text) => text.replaceAll("- rp", "- oldname"));
    await release("install", { repositories: { main }, policies: { nightly } });
    expect((await crd("restorepoints")).spec.names.shortNames).toEqual(["rp"]);
  });
});
