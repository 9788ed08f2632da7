import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { annotations, type VirtualMachineBackup } from "../../src/api/index.ts";
import type { Machine } from "../kubevirt/index.ts";
import { checkout, compareRaw, skipWithout } from "../lab/index.ts";
import { SHOP, Stage } from "../story/stage.ts";
import { Teller } from "../story/teller.ts";
import { Tour, values } from "../story/tour.ts";
import { rewritten, stale } from "../story/usage.ts";
import { conditionWhen, NAMESPACE } from "./operator.ts";

const GRANULE = 65_536;
const DISKS = ["root", "data"] as const;

/** What the disks were at a restore point, as raw files. */
type Disks = Readonly<Record<(typeof DISKS)[number], string>>;

describe.skipIf(skipWithout("cluster", "trixie", "guest", "host", "s3"))("from an empty cluster to a machine restored in place", () => {
  const teller = new Teller();
  let stage: Stage;
  let tour: Tour;
  let web: Machine;

  beforeAll(async () => {
    stage = await Stage.start();
    tour = new Tour(stage, teller);
  });
  afterAll(async () => {
    await stage?.stop();
  });

  /** The run that the policy makes for a new text of its trigger. */
  async function triggered(text: string): Promise<VirtualMachineBackup> {
    await trigger(text);
    return await tour.nextRun("web", ({ metadata }) => metadata.annotations?.[annotations.trigger] === text);
  }

  async function trigger(text: string): Promise<void> {
    const patch = JSON.stringify({ spec: { trigger: { manual: text } } });
    await stage.admin.kubectl(["patch", "bkpol", "gold", "--type=merge", "-p", patch]);
  }

  /** A run while nothing can change, so that there is something to compare with: not even freezing writes to a paused machine's disks. */
  async function takenStill(text: string): Promise<{ readonly run: VirtualMachineBackup; readonly disks: Disks }> {
    const { launcher } = web;
    await launcher.guest.sh("sync");
    await launcher.virsh("suspend", launcher.name);
    try {
      const disks = { root: await web.snapshot("root"), data: await web.snapshot("data") };
      return { run: await triggered(text), disks };
    } finally {
      await launcher.virsh("resume", launcher.name);
    }
  }

  async function expectRestores({ status }: VirtualMachineBackup, disks: Disks): Promise<void> {
    const output = stage.world.output();
    await stage.world.json("restore", ["--point", status?.pointId ?? "", "--output", output], stage.repo);
    for (const disk of DISKS) expect(await compareRaw(join(output, `${disk}.raw`), disks[disk]), disk).toBeUndefined();
  }

  const dirtyOf = ({ status }: VirtualMachineBackup, disk: string): number | undefined =>
    status?.disks?.find(({ name }) => name === disk)?.dirtyBytes;

  test("helm installs the operator, and the repository and the policy of its values are ready", async () => {
    await tour.install();
    expect(await stage.world.points(stage.repo)).toEqual([]);
    await teller.run("kubectl describe bkrepo main", stage.admin);
  });

  test("a label protects a machine: its first scheduled run is a full one, and the next reads what its guest wrote", async () => {
    web = await tour.boot();
    await tour.protect();
    const run = await tour.again(web);
    expect((await stage.world.points(stage.repo)).map(({ id }) => id)).toContain(run.status?.pointId);
    await stage.admin.kubectl(["wait", "bkpol", "gold", "--for=jsonpath={.status.activeRuns}=0", "--timeout=30s"]);
    await teller.run("kubectl describe bkpol gold", stage.admin);
    await teller.run(`kubectl describe tvmb ${run.metadata.name} -n ${SHOP}`, stage.owner);
    await teller.run(`kubectl describe rp ${run.status?.restorePointRef?.name} -n ${SHOP}`, stage.owner);
  });

  test("its owner has it backed up before an upgrade", async () => {
    teller.file("before-upgrade.yaml", {
      apiVersion: "thinstream.dev/v1alpha1",
      kind: "VirtualMachineBackup",
      metadata: { name: "before-upgrade", namespace: SHOP },
      spec: {
        source: { virtualMachine: { name: "web" } },
        repositoryRef: { name: "main" },
        consistency: { mode: "Required" },
      },
    });
    await teller.run("kubectl apply -f before-upgrade.yaml", stage.owner);
    const run = await tour.nextRun("web", ({ metadata }) => metadata.name === "before-upgrade");
    expect(run.status).toMatchObject({ level: "Incremental", consistency: "Filesystem" });
    await teller.run(`kubectl get tvmb before-upgrade -n ${SHOP} -o wide`, stage.owner);
  });

  test("a run waits while its machine migrates, then reads what changed where a libvirt runs that never heard of its checkpoint", async () => {
    // From here on the trigger alone says when.
    const given = values(stage);
    teller.file("values.yaml", { ...given, policies: { gold: { ...given.policies.gold, suspend: true } } });
    await teller.run(`helm upgrade thinstream charts/thinstream -n ${NAMESPACE} -f values.yaml`, stage.admin);
    // A scheduled run that is under way would wait for the migration, too, and no other is made beside it.
    await conditionWhen(stage.admin, { kind: "bkpol", name: "gold", type: "Ready" }, ({ reason }) => reason === "Suspended");
    const isOver = ({ status }: VirtualMachineBackup): boolean => status?.completionTime !== undefined;
    const runs = async (): Promise<readonly VirtualMachineBackup[]> =>
      (await stage.admin.get<{ items: readonly VirtualMachineBackup[] }>("tvmb", "-n", SHOP)).items;
    await expect.poll(async () => (await runs()).every(isOver), { timeout: 120_000 }).toBe(true);
    await web.write("data", "write -P 3 16M 64k");
    const to = web.node === "node-a" ? "node-b" : "node-a";
    const migration = await stage.kubevirt.migrate("web", to, SHOP);
    await trigger("while it migrates");
    const isThis = ({ metadata }: VirtualMachineBackup): boolean => metadata.annotations?.[annotations.trigger] === "while it migrates";
    const find = async (): Promise<VirtualMachineBackup | undefined> => (await runs()).find(isThis);
    await expect.poll(find, { timeout: 60_000 }).toBeDefined();
    const at = { kind: "tvmb", name: (await find())?.metadata.name ?? "", namespace: SHOP, type: "Succeeded" };
    const waiting = await conditionWhen(stage.admin, at, ({ reason }) => reason === "WaitingForMigration");
    expect(waiting).toMatchObject({ status: "Unknown", reason: "WaitingForMigration" });
    await teller.run(`kubectl get tvmb ${at.name} -n ${SHOP} -o wide`, stage.owner);
    await migration.complete();
    const run = await tour.nextRun("web", isThis);
    expect(run.status, JSON.stringify(run.status?.disks)).toMatchObject({ level: "Incremental", nodeName: to });
    expect(dirtyOf(run, "data")).toBe(GRANULE);
  });

  test("after its machine was started anew, in another pod, a run compares everything and stores what differs", async () => {
    web = await stage.kubevirt.restart("web", { namespace: SHOP });
    await web.write("data", "write -P 4 20M 64k");
    const { run, disks } = await takenStill("after a restart");
    expect(run.status?.disks?.find(({ name }) => name === "data")?.uploadedBytes).toBeLessThan(2 * GRANULE);
    await expectRestores(run, disks);
    await web.write("data", "write -P 5 21M 64k");
    const next = await takenStill("and once more");
    expect(next.run.status).toMatchObject({ level: "Incremental" });
    expect(dirtyOf(next.run, "data")).toBe(GRANULE);
    await expectRestores(next.run, next.disks);
  });

  test("a RestoreRequest makes another machine of the newest point, which boots with the guest's files", async () => {
    const copy = await tour.restoreCopy();
    await tour.compareGuests(web, copy);
    await teller.run(`kubectl describe rr web-copy -n ${SHOP}`, stage.owner);
    expect(await compareRaw(await copy.snapshot("data"), await web.snapshot("data"))).toBeUndefined();
  });

  test("a restore in place gives the stopped machine its disks back, and the backup after it misses nothing", async () => {
    const { guest } = web.launcher;
    await guest.sh("echo 'third order' >> /data/orders; sync");
    const good = await takenStill("before the mistake");
    await guest.sh("rm /data/orders; dd if=/dev/urandom of=/data/photos bs=1M count=10 conv=notrunc 2>/dev/null; sync");
    await web.write("data", "write -P 9 0 4M");
    await triggered("after the mistake");
    await stage.kubevirt.setRunStrategy("web", "Halted", SHOP);
    teller.file("web-undo.yaml", {
      apiVersion: "thinstream.dev/v1alpha1",
      kind: "RestoreRequest",
      metadata: { name: "web-undo", namespace: SHOP },
      spec: {
        source: { restorePointRef: { name: good.run.status?.restorePointRef?.name ?? "" } },
        target: { virtualMachine: { name: "web", existing: "Replace", runStrategy: "Halted" } },
      },
    });
    await teller.run("kubectl apply -f web-undo.yaml", stage.owner);
    await tour.restored("web-undo");
    await teller.run(`kubectl get rr -n ${SHOP}`, stage.owner);
    for (const { volume, mode, volumeName } of web.disks) {
      const path = stage.nodes.volumes.pathOf(await volumeName());
      const file = mode === "Block" ? path : join(path, "disk.img");
      expect(await compareRaw(file, good.disks[volume as keyof Disks]), volume).toBeUndefined();
    }
    await stage.kubevirt.setRunStrategy("web", "Always", SHOP);
    web = await stage.machine("web");
    expect(await web.launcher.guest.sh("cat /data/orders")).toBe("first order\nsecond order\nthird order");
    await web.launcher.guest.sh("echo 'fourth order' >> /data/orders");
    await web.write("data", "write -P 10 30M 64k");
    const { run, disks } = await takenStill("after the restore");
    await expectRestores(run, disks);
    await expectRestores(good.run, good.disks);
    await stage.world.expectClean(stage.repo);
  });

  test("in all of it the API server refused its controller nothing", () => {
    const asked = stage.plane.requests().filter(({ user }) => user === `system:serviceaccount:${NAMESPACE}:thinstream`);
    expect(asked.length).toBeGreaterThan(100);
    expect(asked.filter(({ code }) => code === 401 || code === 403)).toEqual([]);
  });

  test("docs/usage.md shows what was said", async () => {
    for (const field of ["bkrepo.spec.s3", "bkpol.spec.retention", "tvmb.spec.consistency", "rp.spec", "rr.spec.target.virtualMachine"])
      await teller.run(`kubectl explain ${field}`, stage.admin);
    const path = join(checkout(), "docs/usage.md");
    if (process.env["THINSTREAM_WRITE_USAGE"] === "1") writeFileSync(path, rewritten(readFileSync(path, "utf8"), teller.shown));
    expect(stale(readFileSync(path, "utf8"), teller.shown)).toEqual([]);
  });
});
