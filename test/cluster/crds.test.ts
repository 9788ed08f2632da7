import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { apiVersion, kinds } from "../../src/api/index.ts";
import { rulesOf } from "../api/schemas.ts";
import { skipWithout } from "../lab/index.ts";
import { changeCases, least, ruleCases } from "./crd-cases.ts";
import { ControlPlane, type Identity } from "./index.ts";

type Fields = Record<string, unknown>;
interface Case {
  readonly kind: string;
  readonly at: string;
  readonly says?: string;
}

const root = join(import.meta.dirname, "../..");
const samples = globSync("*.yaml", { cwd: join(root, "config/samples") }).toSorted();

/** What the rule of a case says. */
function sentence({ kind, at, says = "" }: Case): string {
  const described = kinds.find((one) => one.kind === kind);
  const found = described === undefined ? [] : rulesOf(described).filter((rule) => rule.at === at && rule.message.startsWith(says));
  expect(found, `${kind} ${at} ${says}`).toHaveLength(1);
  return found[0]?.message ?? "";
}

/** The least object of a kind, with this value at this path: `spec.disks[]` is the first of the list. */
function objectWith(kind: string, path: string, value: unknown): object {
  const object = structuredClone({ apiVersion, kind, metadata: { name: "case" }, ...least[kind] }) as Fields;
  const steps = path.replaceAll("[]", ".0").split(".");
  let place = object;
  steps.slice(0, -1).forEach((step, i) => {
    place[step] ??= steps[i + 1] === "0" ? [] : {};
    place = place[step] as Fields;
  });
  place[steps.at(-1) ?? ""] = value;
  return object;
}

test("every rule of every kind has a case that it lets through and one that it refuses", () => {
  const cases: (Case & { good: readonly unknown[]; bad: readonly unknown[] })[] = [...ruleCases, ...changeCases];
  const covered = cases
    .filter(({ good, bad }) => good.length > 0 && bad.length > 0)
    .map((one) => `${one.kind} ${one.at}: ${sentence(one)}`);
  const all = kinds.flatMap((kind) => rulesOf(kind).map(({ at, message }) => `${kind.kind} ${at}: ${message}`));
  expect(covered.toSorted()).toEqual(all.toSorted());
});

describe.skipIf(skipWithout("cluster"))("the custom resources on a real API server", () => {
  let plane: ControlPlane;
  let admin: Identity;
  beforeAll(async () => {
    plane = await ControlPlane.start();
    admin = plane.admin;
    // Warnings of the server, of which a definition must have none, become errors.
    await admin.kubectl(["apply", "--warnings-as-errors", "-f", join(root, "crds")]);
    await admin.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    await admin.kubectl(["create", "namespace", "shop"]);
    await admin.kubectl(["create", "namespace", "thinstream"]);
  });
  afterAll(async () => await plane.stop());

  /** What kubectl is told when it would make these objects; empty when they are taken. */
  const refusal = async (object: object): Promise<string> =>
    await admin.kubectl(["create", "--dry-run=server", "--validate=strict", "-f", "-"], { input: JSON.stringify(object) }).then(
      () => "",
      (cause: unknown) => String(cause),
    );
  const refusedPatch = async (resource: string, patch: object): Promise<string> => {
    const onStatus = "status" in patch ? ["--subresource=status"] : [];
    return await admin.kubectl(["patch", resource, "case", "--type=merge", ...onStatus, "-p", JSON.stringify(patch)]).then(
      () => "",
      (cause: unknown) => String(cause),
    );
  };

  test("are accepted as they are: established, structural, names as wanted", async () => {
    const { items } = await admin.get<{ items: { status: { conditions: { type: string; status: string }[]; acceptedNames: object } }[] }>(
      "crd",
    );
    expect(items).toHaveLength(kinds.length);
    for (const { status } of items) {
      const held = status.conditions.map((one) => `${one.type}=${one.status}`).toSorted();
      expect(held).toEqual(["Established=True", "NamesAccepted=True"]);
    }
  });

  test("the least object of every kind is taken", async () => {
    for (const kind of Object.keys(least)) expect(await refusal(objectWith(kind, "metadata", { name: "case" })), kind).toBe("");
  });

  test.each(ruleCases.map((one) => [one.kind, one.at, one] as const))("%s %s", async (_kind, _at, one) => {
    const said = sentence(one);
    for (const value of one.good) expect(await refusal(objectWith(one.kind, one.put ?? one.at, value)), JSON.stringify(value)).toBe("");
    for (const value of one.bad)
      expect(await refusal(objectWith(one.kind, one.put ?? one.at, value)), JSON.stringify(value)).toContain(said);
  });

  test.each(changeCases.map((one) => [one.kind, one.at, one] as const))("%s %s, changed", async (_kind, _at, one) => {
    const said = sentence(one);
    const resource = `${one.kind.toLowerCase()}.thinstream.dev`;
    await admin.apply([objectWith(one.kind, "metadata", { name: "case" })]);
    for (const patch of one.good) expect(await refusedPatch(resource, patch), JSON.stringify(patch)).toBe("");
    for (const patch of one.bad) expect(await refusedPatch(resource, patch), JSON.stringify(patch)).toContain(said);
    await admin.kubectl(["delete", resource, "case"]);
  });

  test.each([
    ["BackupPolicy", "spec.retention", { keepLast: 1, minimumRestorePoints: 0 }, "greater than or equal to 1"],
    ["BackupPolicy", "spec.consistency", { mode: "Maybe" }, 'supported values: "Auto", "Required", "Never"'],
    ["BackupPolicy", "spec.repositoryRef", { name: "No Name" }, "should match"],
    ["BackupPolicy", "spec.window", { start: "24:00", end: "06:00" }, "should match"],
    ["VirtualMachineBackup", "spec.sources", {}, 'unknown field "spec.sources"'],
    ["BackupRepository", "spec.s3", { bucket: "backups" }, "credentialsSecretRef: Required value"],
  ])("%s refuses a wrong %s", async (kind, path, value, said) => {
    expect(await refusal(objectWith(kind, path, value))).toContain(said);
  });

  test.each(samples)("the sample %s is taken, with strict field validation", async (file) => {
    const text = readFileSync(join(root, "config/samples", file), "utf8");
    const documents = parseAllDocuments(text);
    const said = await admin.kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", "-"], { input: text });
    expect(said.trim().split("\n")).toHaveLength(documents.length);
    expect(text, "a comment says whose story it is").toMatch(/^# An? /);
  });

  test("defaults are filled in, also in what was not written", async () => {
    const input = JSON.stringify(objectWith("BackupPolicy", "metadata", { name: "case" }));
    const made = JSON.parse(await admin.kubectl(["create", "--dry-run=server", "-o", "json", "-f", "-"], { input })) as { spec: object };
    expect(made.spec).toEqual({
      repositoryRef: { name: "main" },
      timeZone: "UTC",
      jitter: "0s",
      suspend: false,
      startingDeadline: "1h",
      concurrency: { perPolicy: 10, perNode: 2 },
      level: "Auto",
      consistency: { mode: "Auto", freezeTimeout: "1m" },
      disks: {},
      compression: "LZ4",
      deadline: "12h",
      backoffLimit: 3,
      runsHistoryLimit: 5,
    });
  });

  test("the status is a subresource: who writes the object does not write it", async () => {
    const object = { ...objectWith("BackupPolicy", "metadata", { name: "case" }), status: { matchedVMs: 3 } };
    await admin.apply([object]);
    expect(await admin.get("bkpol", "case")).not.toHaveProperty("status");
    expect(await refusedPatch("bkpol", { status: { matchedVMs: 3 } })).toBe("");
    expect(await admin.get("bkpol", "case")).toMatchObject({ status: { matchedVMs: 3 } });
    await admin.kubectl(["delete", "bkpol", "case"]);
  });
});
