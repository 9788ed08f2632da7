import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  apiVersion,
  type BackupPolicy,
  type BackupRepository,
  kinds,
  type RestorePoint,
  type RestoreRequest,
  rfc3339,
  type VirtualMachineBackup,
} from "../../src/api/index.ts";
import { skipWithout } from "../lab/index.ts";
import { ControlPlane, type Identity } from "./index.ts";

const root = join(import.meta.dirname, "../..");
const hours = (count: number): string => rfc3339(new Date(Date.now() - count * 3_600_000));
const said = { observedGeneration: 1, lastTransitionTime: hours(5) };

const repository: BackupRepository["status"] = {
  observedGeneration: 1,
  conditions: [{ ...said, type: "Ready", status: "True", reason: "Available", message: "" }],
  repositoryId: "0123456789abcdef0123456789abcdef",
  formatVersion: 1,
  usage: { points: 412, machines: 31, storedBytes: 1_319_413_953_331, stored: "1.2 TiB" },
  lastSyncTime: hours(2),
};
const policy: BackupPolicy["status"] = {
  conditions: [
    { ...said, type: "Ready", status: "True", reason: "Scheduled", message: "" },
    {
      ...said,
      type: "Protected",
      status: "False",
      reason: "RPOMissed",
      message: "1 of 12 virtual machines has no restore point younger than 24h",
    },
  ],
  matchedVMs: 12,
  protectedVMs: 11,
  lastSuccessfulTime: hours(5),
  nextScheduleTime: "2026-11-22T01:15:00Z",
  unprotected: [{ namespace: "shop", name: "db1", reason: "DisksNotSupported", message: "Its only disk is a LUN: exclude it" }],
};
const done: VirtualMachineBackup["status"] = {
  conditions: [{ ...said, type: "Succeeded", status: "True", reason: "Completed", message: "" }],
  level: "Incremental",
  engine: "LibvirtPull",
  consistency: "Filesystem",
  nodeName: "node-1",
  progress: { percent: 100, doneBytes: 42_949_672_960, totalBytes: 42_949_672_960 },
  restorePointRef: { name: "web1-20261121-021500-4k7m2x9a" },
  uploaded: "1.2 GiB",
};
const failed: VirtualMachineBackup["status"] = {
  conditions: [
    { ...said, type: "Succeeded", status: "False", reason: "DomainNotFound", message: "There is no domain router on node-1" },
    { ...said, type: "Stalled", status: "True", reason: "DomainNotFound", message: "There is no domain router on node-1" },
  ],
};
const point: Omit<RestorePoint, "metadata"> = {
  apiVersion,
  kind: "RestorePoint",
  spec: {
    repositoryRef: { name: "main" },
    pointId: "01594b4c8083-0000000001",
    vm: { name: "web1", namespace: "shop" },
    time: "2026-11-21T02:15:00Z",
    level: "Incremental",
    consistency: "Filesystem",
    disks: [{ name: "rootdisk", sizeBytes: 42_949_672_960 }],
    sizeBytes: 42_949_672_960,
    size: "40 GiB",
    deletionPolicy: "Retain",
    hold: false,
  },
};
const pointStatus: RestorePoint["status"] = {
  conditions: [{ ...said, type: "Ready", status: "True", reason: "InRepository", message: "" }],
};
const restoring: RestoreRequest["status"] = {
  conditions: [
    { ...said, type: "Succeeded", status: "Unknown", reason: "Restoring", message: "" },
    { ...said, type: "Reconciling", status: "True", reason: "Progressing", message: "" },
  ],
  progress: { percent: 62, doneBytes: 26_628_797_235, totalBytes: 42_949_672_960 },
  pointTime: "2026-11-21T02:15:00Z",
};

describe.skipIf(skipWithout("cluster"))("what kubectl shows of the custom resources", () => {
  let plane: ControlPlane;
  let admin: Identity;
  beforeAll(async () => {
    plane = await ControlPlane.start();
    admin = plane.admin;
    await admin.kubectl(["apply", "-f", join(root, "crds")]);
    await admin.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
    for (const name of ["shop", "thinstream"]) await admin.kubectl(["create", "namespace", name]);
    await admin.kubectl(["apply", "-f", join(root, "config/samples")]);
    await admin.apply([{ ...point, metadata: { name: "web1-20261121-021500-4k7m2x9a", namespace: "shop" } }]);
    await status("bkrepo", "main", repository);
    await status("bkpol", "nightly", policy);
    await status("tvmb", "web1-before-upgrade", done, "shop");
    await status("tvmb", "router-20261121", failed, "thinstream");
    await status("rp", "web1-20261121-021500-4k7m2x9a", pointStatus, "shop");
    await status("rr", "web1-undo", restoring, "shop");
  });
  afterAll(async () => await plane.stop());

  async function status(resource: string, name: string, value: unknown, namespace = "default"): Promise<void> {
    await admin.kubectl([
      "patch",
      resource,
      name,
      "-n",
      namespace,
      "--subresource=status",
      "--type=merge",
      "-p",
      JSON.stringify({ status: value }),
    ]);
  }
  /** A table with its ages, which no two runs share, as `-`. */
  const table = async (...args: string[]): Promise<string[]> => {
    const text = await admin.kubectl(["get", ...args]);
    return text
      .trim()
      .split("\n")
      .map((line) =>
        line
          .trim()
          .replaceAll(/ {2,}/g, " | ")
          .replaceAll(/\| \d+[smh](?= \||$)/g, "| -"),
      );
  };

  test("repositories and policies", async () => {
    expect(await table("bkrepo", "main")).toEqual([
      "NAME | READY | REASON | BUCKET | POINTS | STORED | SYNCED | AGE",
      "main | True | Available | backups | 412 | 1.2 TiB | - | -",
    ]);
    expect(await table("bkpol")).toEqual([
      "NAME | SCHEDULE | SUSPEND | VMS | PROTECTED | LAST | NEXT | READY | AGE",
      "nightly | 15 2 * * * | false | 12 | 11 | - | 2026-11-22T01:15:00Z | True | -",
    ]);
  });

  test("runs, of virtual machines and of domains", async () => {
    expect(await table("tvmb", "-n", "shop", "-o", "wide")).toEqual([
      "NAME | MACHINE | SUCCEEDED | REASON | LEVEL | PERCENT | UPLOADED | AGE | CONSISTENCY | NODE | POINT | REPOSITORY | MESSAGE",
      "web1-before-upgrade | web1 | True | Completed | Incremental | 100 | 1.2 GiB | - | Filesystem | node-1 | web1-20261121-021500-4k7m2x9a | main",
    ]);
    expect(await table("tvmb", "-n", "thinstream")).toEqual([
      "NAME | MACHINE | SUCCEEDED | REASON | LEVEL | PERCENT | UPLOADED | AGE",
      "router-20261121 | router | False | DomainNotFound | -",
    ]);
  });

  test("restore points and restores", async () => {
    expect(await table("rp", "-n", "shop")).toEqual([
      "NAME | MACHINE | TIME | LEVEL | CONSISTENCY | SIZE | READY | HOLD | AGE",
      "web1-20261121-021500-4k7m2x9a | web1 | 2026-11-21T02:15:00Z | Incremental | Filesystem | 40 GiB | True | false | -",
    ]);
    expect(await table("rr", "web1-undo", "-n", "shop")).toEqual([
      "NAME | TARGET | SUCCEEDED | REASON | PERCENT | POINT | AGE",
      "web1-undo | web1 | Unknown | Restoring | 62 | 2026-11-21T02:15:00Z | -",
    ]);
  });

  test("all kinds of the group, by its category", async () => {
    const names = (await admin.kubectl(["get", "thinstream", "-A", "-o", "name"])).trim().split("\n");
    expect(new Set(names.map((name) => name.split("/")[0]))).toEqual(
      new Set(kinds.map(({ kind }) => `${kind.toLowerCase()}.thinstream.dev`)),
    );
  });

  test("waiting for a run works on its summary", async () => {
    const words = await admin.kubectl(["wait", "tvmb/web1-before-upgrade", "-n", "shop", "--for=condition=Succeeded", "--timeout=5s"]);
    expect(words).toContain("condition met");
  });

  test.each(kinds.map((kind) => [kind.kind, kind] as const))(
    "explains %s: what it is, and every field of its spec and status",
    async (_name, kind) => {
      const about = await admin.kubectl(["explain", kind.shortName]);
      expect(about.replaceAll(/\s+/g, " ")).toContain(kind.description);
      for (const part of ["spec", "status"] as const) {
        const text = (await admin.kubectl(["explain", `${kind.shortName}.${part}`])).replaceAll(/\s+/g, " ");
        for (const [field, schema] of Object.entries(kind[part].properties)) {
          const type = (schema as { type?: string }).type;
          expect(text).toMatch(
            new RegExp(` ${field} <${type === "object" ? "(?:Object|map\\[string\\]string)" : type === "array" ? "\\[\\]\\w+" : type}>`),
          );
          expect(text).toContain((schema as { description?: string }).description);
        }
      }
    },
  );
});
