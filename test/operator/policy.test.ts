import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BackupPolicy, RestorePoint, VirtualMachineBackup } from "../../src/api/index.ts";
import { conditionOf } from "../../src/controller/said.ts";
import { type Repo, World } from "../acceptance/world.ts";
import { applyKubeVirt, ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { NodeSimulator } from "../node/index.ts";
import { eventually } from "../node/world.ts";
import { applyCrds, conditionWhen, NAMESPACE, Operator, repositoryObjects } from "./operator.ts";

const SHOP = "shop";

describe.skipIf(skipWithout("cluster", "host", "s3"))("a policy over stopped virtual machines", () => {
  let plane: ControlPlane;
  let nodes: NodeSimulator;
  let world: World;
  let repo: Repo;
  let operator: Operator;

  beforeAll(async () => {
    world = await World.start("host");
    repo = await world.s3Repo("policy");
    plane = await ControlPlane.start({ controllers: true, scheduler: true });
    const namespace = (name: string, labels: object): object => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
    await plane.admin.apply([namespace(NAMESPACE, {}), namespace(SHOP, { backup: "yes" }), namespace("other", {})]);
    await applyCrds(plane.admin);
    await applyKubeVirt(plane.admin);
    nodes = await NodeSimulator.start(plane, { nodes: ["node-a", "node-b"] });
    await plane.admin.apply(repositoryObjects("main", repo));
    operator = new Operator(plane);
    await operator.start();
    await volume(
      "data",
      "dd if=/dev/urandom of=/volume/disk.img bs=1M count=8 2>/dev/null; truncate -s 32M /volume/disk.img; chown 107:107 /volume/disk.img",
    );
    await plane.admin.apply([machine("web", {}), machine("scratch", { "thinstream.dev/backup": "false" })]);
  });
  afterAll(async () => {
    await operator?.stop();
    await nodes?.stop();
    await plane?.stop();
    await world?.stop();
  });

  /** A volume, and what a script does to it, mounted at /volume. */
  async function volume(claim: string, script: string): Promise<void> {
    const spec = { accessModes: ["ReadWriteOnce"], storageClassName: "immediate", resources: { requests: { storage: "64Mi" } } };
    await plane.admin.apply([{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: claim, namespace: SHOP }, spec }]);
    await write(claim, script);
  }

  async function write(claim: string, script: string): Promise<void> {
    const name = `write-${claim}`;
    const container = {
      name: "main",
      image: "debian:13",
      command: ["sh", "-c", script],
      volumeMounts: [{ name: "volume", mountPath: "/volume" }],
    };
    const volumes = [{ name: "volume", persistentVolumeClaim: { claimName: claim } }];
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: SHOP },
      spec: { restartPolicy: "Never", containers: [container], volumes },
    };
    await plane.admin.apply([pod]);
    const phase = async (): Promise<string> => (await plane.admin.get<{ status: { phase: string } }>("pod", name, "-n", SHOP)).status.phase;
    await eventually(phase, (now) => now === "Succeeded");
    await plane.admin.kubectl(["delete", "pod", name, "-n", SHOP, "--wait=true"]);
  }

  function machine(name: string, labels: object): object {
    const domain = { devices: { disks: [{ name: "root", disk: { bus: "virtio" } }] }, resources: { requests: { memory: "64Mi" } } };
    const volumes = [{ name: "root", persistentVolumeClaim: { claimName: "data" } }];
    return {
      apiVersion: "kubevirt.io/v1",
      kind: "VirtualMachine",
      metadata: { name, namespace: SHOP, labels },
      spec: { runStrategy: "Halted", template: { spec: { domain, volumes } } },
    };
  }

  const policy = (more: object): object => ({
    apiVersion: "thinstream.dev/v1alpha1",
    kind: "BackupPolicy",
    metadata: { name: "nightly" },
    spec: {
      namespaces: { selector: { matchLabels: { backup: "yes" } } },
      repositoryRef: { name: "main" },
      rpo: "24h",
      retention: { keepLast: 2 },
      ...more,
    },
  });

  async function runsNow(): Promise<readonly VirtualMachineBackup[]> {
    return (await plane.admin.get<{ items: readonly VirtualMachineBackup[] }>("tvmb", "-n", SHOP)).items;
  }

  async function triggered(text: string): Promise<VirtualMachineBackup> {
    await plane.admin.apply([policy({ trigger: { manual: text } })]);
    const find = async (): Promise<VirtualMachineBackup | undefined> =>
      (await runsNow()).find(({ metadata }) => metadata.annotations?.["thinstream.dev/trigger"] === text);
    const state = async (): Promise<string> => {
      const { status = "", reason = "", message = "" } = conditionOf((await find()) ?? { metadata: {} }, "Succeeded") ?? {};
      return `${status} ${reason}: ${message}`;
    };
    await expect.poll(state, { timeout: 60_000 }).toMatch(/^(True|False)/);
    return (await find()) as VirtualMachineBackup;
  }

  test("without a schedule makes runs on its trigger, of the machines it selects, and says that they are protected", async () => {
    const first = await triggered("one");
    expect(conditionOf(first, "Succeeded"), operator.log.slice(-3000)).toMatchObject({ status: "True" });
    expect(first.status).toMatchObject({ engine: "Image", consistency: "Offline", level: "Full", attempts: 1 });
    expect(first.spec.source.virtualMachine?.name).toBe("web");
    const protectedNow = await conditionWhen(
      plane.admin,
      { kind: "bkpol", name: "nightly", type: "Protected" },
      ({ status }) => status === "True",
    );
    expect(protectedNow).toMatchObject({ reason: "WithinRPO" });
    const { status } = await plane.admin.get<BackupPolicy>("bkpol", "nightly");
    expect(status).toMatchObject({ matchedVMs: 1, protectedVMs: 1, lastManualTrigger: "one" });
    expect(await runsNow()).toHaveLength(1);
    const [point] = await world.points(repo);
    expect(point).toMatchObject({ vm: `${SHOP}/web`, disks: [{ name: "root", size: 32 * 2 ** 20 }] });
  });

  test("stores what changed, keeps what its retention keeps, and takes its holders away", async () => {
    await write("data", "dd if=/dev/urandom of=/volume/disk.img bs=64k count=1 seek=9 conv=notrunc 2>/dev/null");
    const second = await triggered("two");
    expect(second.status?.disks?.[0]?.uploadedBytes).toBeLessThan(200_000);
    const third = await triggered("three");
    await expect
      .poll(async () => (await world.points(repo)).map(({ id }) => id), { timeout: 60_000 })
      .toEqual([second.status?.pointId, third.status?.pointId]);
    const mirrored = await plane.admin.get<{ items: readonly RestorePoint[] }>("rp", "-n", SHOP);
    expect(mirrored.items.map(({ spec }) => spec.pointId).toSorted((a, b) => a.localeCompare(b))).toEqual(
      [second.status?.pointId ?? "", third.status?.pointId ?? ""].toSorted((a, b) => a.localeCompare(b)),
    );
    expect((await plane.admin.kubectl(["get", "pods", "-n", SHOP, "-o", "name"])).trim()).toBe("");
  });

  test("of a second one that selects the same machine says so, and does not back it up", async () => {
    await plane.admin.apply([{ ...(policy({ trigger: { manual: "z" } }) as { metadata: object }), metadata: { name: "second" } }]);
    await conditionWhen(plane.admin, { kind: "bkpol", name: "second", type: "Ready" }, ({ status }) => status === "True");
    const { status } = await plane.admin.get<BackupPolicy>("bkpol", "second");
    expect(status?.unprotected).toEqual([expect.objectContaining({ namespace: SHOP, name: "web", reason: "OtherPolicy" })]);
    expect((await runsNow()).every(({ spec }) => spec.policyRef?.name === "nightly")).toBe(true);
  });

  test("with a window holds a scheduled run until it opens, or ends it", async () => {
    const hours = (from: number, to: number): { start: string; end: string } => {
      const clock = (hour: number): string => new Date(Date.now() + hour * 3_600_000).toISOString().slice(11, 16);
      return { start: clock(from), end: clock(to) };
    };
    const scheduled = (name: string): object => ({
      apiVersion: "thinstream.dev/v1alpha1",
      kind: "VirtualMachineBackup",
      metadata: {
        name,
        namespace: SHOP,
        labels: { "thinstream.dev/policy": "nightly" },
        annotations: { "thinstream.dev/scheduled-at": "2026-11-21T02:00:00Z" },
      },
      spec: { source: { virtualMachine: { name: "web" } }, repositoryRef: { name: "main" }, policyRef: { name: "nightly" } },
    });
    const succeeded = async (name: string, good: (reason: string) => boolean): Promise<object> =>
      await conditionWhen(plane.admin, { kind: "tvmb", name, namespace: SHOP, type: "Succeeded" }, ({ reason }) => good(reason));
    const later = hours(2, 4);
    await plane.admin.apply([policy({ window: { ...later, onOverrun: "Continue" } }), scheduled("held")]);
    expect(await succeeded("held", (reason) => reason === "WaitingForWindow")).toMatchObject({
      status: "Unknown",
      message: expect.stringContaining(`T${later.start}:00Z`),
    });
    // Asked for while that one is under way, it is made when that is done.
    await plane.admin.apply([policy({ window: { ...hours(-1, 4), onOverrun: "Continue" }, trigger: { manual: "meanwhile" } })]);
    expect(await succeeded("held", (reason) => reason.startsWith("Completed"))).toMatchObject({ status: "True" });
    const triggers = async (): Promise<readonly (string | undefined)[]> =>
      (await runsNow()).map(({ metadata }) => metadata.annotations?.["thinstream.dev/trigger"]);
    await expect.poll(triggers, { timeout: 60_000 }).toContain("meanwhile");
    await expect
      .poll(async () => (await runsNow()).every((run) => conditionOf(run, "Succeeded")?.status !== "Unknown"), { timeout: 60_000 })
      .toBe(true);
    await plane.admin.apply([policy({ window: { ...later, onOverrun: "Cancel" } }), scheduled("ended")]);
    expect(await succeeded("ended", (reason) => reason === "WindowClosed")).toMatchObject({ status: "False" });
  });

  test("hears of labels at once: a machine's, a namespace's, and where another policy no longer selects what both did", async () => {
    const matched = async (name: string): Promise<number | undefined> =>
      (await plane.admin.get<BackupPolicy>("bkpol", name)).status?.matchedVMs;
    // Far less than the five minutes after which a policy is looked at in any case.
    const soon = { timeout: 30_000 };
    await plane.admin.kubectl(["label", "vm", "scratch", "-n", SHOP, "thinstream.dev/backup-"]);
    await expect.poll(async () => await matched("nightly"), soon).toBe(2);
    await plane.admin.kubectl(["label", "namespace", SHOP, "backup=no", "--overwrite"]);
    await expect.poll(async () => await matched("nightly"), soon).toBe(0);
    await plane.admin.kubectl(["label", "namespace", SHOP, "backup=yes", "--overwrite"]);
    await expect.poll(async () => await matched("second"), soon).toBe(2);
    await plane.admin.kubectl(["delete", "bkpol", "nightly"]);
    const unprotected = async (): Promise<readonly string[]> =>
      (await plane.admin.get<BackupPolicy>("bkpol", "second")).status?.unprotected?.map(({ name, reason }) => `${name} ${reason}`) ?? [];
    await expect.poll(unprotected, soon).toEqual(["scratch NeverBackedUp"]);
    await plane.admin.kubectl(["delete", "vm", "scratch", "-n", SHOP]);
    await expect.poll(async () => await matched("second"), soon).toBe(1);
  });
});
