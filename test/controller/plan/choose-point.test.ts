import { describe, expect, test } from "vitest";
import type { RestorePoint, RestoreRequest } from "../../../src/api/index.ts";
import { choosePoint, forbidden, refusalOfPoint } from "../../../src/controller/plan/kubevirt/choose-point.ts";
import { refusalOfInspection, refusalOfPlan } from "../../../src/controller/restore/trouble.ts";

const standing = { namespace: "shop", home: "thinstream" };
const home = { namespace: "thinstream", home: "thinstream" };

function point(
  seq: number,
  time: string,
  more: { readonly namespace?: string; readonly vm?: object; readonly deleted?: true } = {},
): RestorePoint {
  return {
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "RestorePoint",
    metadata: {
      name: `web-${seq}`,
      namespace: more.namespace ?? "shop",
      ...(more.deleted === true ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
    },
    spec: {
      repositoryRef: { name: "main" },
      pointId: `0123456789ab-${seq}`,
      vm: { name: "web", namespace: "shop", ...more.vm },
      time,
      level: "Full",
      consistency: "Offline",
      disks: [],
      sizeBytes: 0,
      size: "0 B",
      deletionPolicy: "Retain",
      hold: false,
    },
  };
}

function request(source: RestoreRequest["spec"]["source"], namespace?: string): RestoreRequest {
  const virtualMachine = {
    name: "web",
    existing: "Fail",
    runStrategy: "Original",
    identity: {},
    ...(namespace === undefined ? {} : { namespace }),
  } as const;
  return {
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "RestoreRequest",
    metadata: { name: "r", namespace: "shop" },
    spec: { source, target: { virtualMachine }, deadline: "24h", backoffLimit: 3 },
  };
}

const byTime = (time?: string, namespace?: string): RestoreRequest =>
  request({
    repository: {
      name: "main",
      vm: { name: "web", ...(namespace === undefined ? {} : { namespace }) },
      ...(time === undefined ? {} : { time }),
    },
  });
const byName = (name: string): RestoreRequest => request({ restorePointRef: { name } });

const points = [
  point(1, "2026-11-01T00:00:00Z"),
  point(10, "2026-11-03T00:00:00Z"),
  point(9, "2026-11-03T00:00:00Z"),
  point(11, "2026-11-04T00:00:00Z", { deleted: true }),
  point(12, "2026-11-05T00:00:00Z", { namespace: "other" }),
  point(13, "2026-11-05T00:00:00Z", { vm: { name: "db" } }),
];

function chosen(run: RestoreRequest, at = standing): string {
  const found = choosePoint(run, points, at);
  return "pointId" in found ? found.pointId : `${found.reason}: ${found.message}`;
}

describe("choosePoint", () => {
  test("takes the newest that is not after the moment, and of one second the last", () => {
    expect(chosen(byTime())).toBe("0123456789ab-10");
    expect(chosen(byTime("2026-11-03T00:00:00Z"))).toBe("0123456789ab-10");
    expect(chosen(byTime("2026-11-02T23:59:59Z"))).toBe("0123456789ab-1");
  });

  test("says what is not there", () => {
    expect(chosen(byTime("2026-10-01T00:00:00Z"))).toBe(
      "RestorePointNotFound: the repository main has no restore point of shop/web that was made by 2026-10-01T00:00:00Z: kubectl get rp -A lists those that are there",
    );
    expect(chosen(byName("web-77"))).toMatch(/^RestorePointNotFound: there is no RestorePoint web-77 in namespace shop/);
  });

  test("takes no RestorePoint of another namespace by its name, and none that is being deleted", () => {
    expect(chosen(byName("web-9"))).toBe("0123456789ab-9");
    expect(chosen(byName("web-11"))).toMatch(/^RestorePointNotFound/);
    expect(chosen(byName("web-12"))).toMatch(/^RestorePointNotFound/);
  });

  test("looks only where the controller puts mirrors", () => {
    expect(chosen(byTime("2026-12-01T00:00:00Z"))).toBe("0123456789ab-10");
  });
});

describe("forbidden", () => {
  test("a request restores its own namespace's machines into its own namespace", () => {
    expect(forbidden(byTime(), standing)).toBeNull();
    expect(forbidden(byTime(undefined, "shop"), standing)).toBeNull();
    expect(forbidden(byTime(undefined, "other"), standing)).toMatchObject({ reason: "NotPermitted", final: true });
    expect(forbidden(byTime(undefined, ""), standing)?.message).toContain("a libvirt domain");
    expect(forbidden(request({ restorePointRef: { name: "x" } }, "other"), standing)).toMatchObject({ reason: "NotPermitted" });
  });

  test("one of the operator's namespace restores everything anywhere", () => {
    expect(forbidden(byTime(undefined, "other"), home)).toBeNull();
    expect(forbidden(request({ restorePointRef: { name: "x" } }, "other"), home)).toBeNull();
  });
});

describe("refusalOfPoint", () => {
  const pointId = "0123456789ab-1";

  test("goes by what the repository says the point is of", () => {
    expect(refusalOfPoint(byName("web-1"), { pointId, machine: "shop/web" }, standing)).toBeNull();
    expect(refusalOfPoint(byName("web-1"), { pointId, machine: "other/web" }, standing)).toMatchObject({
      reason: "NotPermitted",
      final: true,
    });
    expect(refusalOfPoint(byName("web-1"), { pointId, machine: "web" }, standing)?.message).toContain("a libvirt domain");
    expect(refusalOfPoint(byName("web-1"), { pointId, machine: "/web" }, standing)).toMatchObject({ reason: "NotPermitted" });
    expect(refusalOfPoint(byName("web-1"), { pointId, machine: "other/web" }, home)).toBeNull();
  });

  test("and that has to be the machine that was asked for", () => {
    expect(refusalOfPoint(byTime(), { pointId, machine: "shop/db" }, standing)).toMatchObject({ reason: "RestorePointNotFound" });
    expect(refusalOfPoint(byTime(), { pointId, machine: "shop/web" }, standing)).toBeNull();
  });
});

describe("what ends a restore, and what it waits for", () => {
  const failure = { version: 1, outcome: "Failed", message: "m", retryable: false } as const;

  test.each([
    ["PointNotFound", "RestorePointNotFound", true],
    ["PointDamaged", "RepositoryDamaged", true],
    ["WrongKey", "RepositoryNotReady", false],
  ] as const)("%s is %s", (reason, said, final) => {
    expect(refusalOfInspection({ ...failure, reason })).toEqual({ reason: said, message: "m", final });
  });

  test.each([
    ["TargetExists", true, true],
    ["TargetExists", false, false],
    ["TargetRunning", true, false],
    ["StorageClassNotFound", false, false],
    ["DiskNotFound", false, true],
  ] as const)("%s with the machine there: %s, is final: %s", (reason, machineThere, final) => {
    expect(refusalOfPlan({ kind: "refuse", reason, message: "m" }, { machineThere })).toEqual({ reason, message: "m", final });
  });
});
