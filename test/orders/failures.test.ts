import { readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BackupWork, WorkOrder } from "../../src/api/index.ts";
import { Vm } from "../acceptance/vm.ts";
import { World } from "../acceptance/world.ts";
import { skipWithout } from "../lab/index.ts";
import { thinstreamJson } from "../support/thinstream.ts";
import { backupOf, placeIn, expectFailed, succeeded } from "./ordered-vm.ts";
import { type AgentEnd, reachStep } from "./placed-order.ts";
import { freePort } from "./ports.ts";
import { onSmallFileSystem } from "./small-file-system.ts";

const skipped = skipWithout("host");
const MiB = 2 ** 20;

// Those that other files of this directory have by the way: WorkOrder*, DeadlineExceeded, Cancelled, NotFetched, GuestNotFrozen, DiskNotFound,
// DiskNotSupported, Point*, Target*, WrongKey, RepositoryMissing, Internal.
describe.skipIf(skipped)("a backup that cannot be taken says why, and whether another try is worth it", () => {
  let world: World;
  let vm: Vm;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "16M" } });
    await vm.write("vda", "write -P 1 0 1M");
  });
  afterAll(async () => world?.stop());

  async function run(work: BackupWork, changes: Partial<WorkOrder> = {}, env: NodeJS.ProcessEnv = {}): Promise<AgentEnd> {
    return await (await placeIn(world, work, changes)).run({ env });
  }

  test("DomainNotFound, HypervisorUnreachable, HypervisorNotSupported", async () => {
    expectFailed(await run(backupOf(vm, {}, { domain: "absent" })), "DomainNotFound", /absent/);
    expectFailed(await run(backupOf(vm, {}, { uri: `qemu+unix:///system?socket=${world.dir}/absent` })), "HypervisorUnreachable");
    expectFailed(await run(backupOf(vm, {}, { uri: "test:///default", domain: "test" })), "HypervisorNotSupported", /under TEST/i);
  });

  test("AnotherJobActive: a backup of ours, and then one of another program", async () => {
    const steps = world.output("steps");
    const first = (await placeIn(world, backupOf(vm))).start({ env: { THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: "opened" } });
    await reachStep(steps, "opened");
    expectFailed(await run(backupOf(vm)), "AnotherJobActive", /is running/);
    rmSync(steps);
    succeeded(await first.ended);
    const xml = join(world.dir, "foreign.xml");
    const scratch = join(world.dir, "foreign.scratch");
    writeFileSync(
      xml,
      `<domainbackup mode='pull'><server transport='unix' socket='${world.dir}/foreign.sock'/><disks><disk name='vda' backup='yes' type='file'><scratch file='${scratch}'/></disk></disks></domainbackup>`,
    );
    await world.lab.virsh("backup-begin", vm.name, xml);
    expectFailed(await run(backupOf(vm)), "AnotherJobActive", /another program/);
    await world.lab.virsh("domjobabort", vm.name);
  });

  test("DiskInUse: the image of a running machine", async () => {
    const source = { engine: "image" as const, images: [{ disk: "vda", path: vm.path(), format: "qcow2" as const }] };
    expectFailed(await run(backupOf(vm, { source })), "DiskInUse");
  });

  test("ScratchFull: no such directory, or one without room", async () => {
    expectFailed(await run(backupOf(vm, {}, { scratchDir: join(world.dir, "absent") })), "ScratchFull", /cannot be used/);
    const dir = world.output("small");
    await onSmallFileSystem(dir, 2, async () => expectFailed(await run(backupOf(vm, {}, { scratchDir: dir })), "ScratchFull", /has only/));
    await vm.expectTidy();
  });

  test("BucketFull: the store has no room, and nothing is left of the point", async () => {
    await vm.write("vda", "write -P 3 2M 64k");
    const dir = world.output("small");
    await onSmallFileSystem(dir, 4, async () => {
      const noise = join(world.dir, "noise");
      writeFileSync(noise, randomBytes(8 * MiB));
      const keyFile = join(world.dir, "small.key");
      const flags = ["--repo", `file://${dir}/repo`, "--key-file", keyFile];
      await thinstreamJson(["init", ...flags]);
      const source = { engine: "image" as const, images: [{ disk: "vda", path: noise, format: "raw" as const }] };
      expectFailed(await run(backupOf(vm, { source }), { repository: { url: `file://${dir}/repo`, keyFile } }), "BucketFull");
      expect((await thinstreamJson<{ points: unknown[] }>(["points", ...flags])).points).toEqual([]);
    });
  });

  test("RepositoryDamaged and RepositoryTooNew: its config", async () => {
    const config = join(world.repo.dir, "config");
    const whole = readFileSync(config, "utf8");
    try {
      writeFileSync(config, whole.replace(/"created":\s*"\d/, '"created": "9'));
      expectFailed(await run(backupOf(vm)), "RepositoryDamaged");
      writeFileSync(config, whole.replace(/"version":\s*1/, '"version": 2'));
      expectFailed(await run(backupOf(vm)), "RepositoryTooNew", /knows format 1/);
    } finally {
      writeFileSync(config, whole);
    }
  });

  test("RepositoryUnreachable: nobody answers where the store should be", async () => {
    const repository = {
      url: `s3://backups/x?endpoint=http://127.0.0.1:${await freePort()}&region=us-east-1`,
      keyFile: world.repo.keyFile,
    };
    const env = { AWS_ACCESS_KEY_ID: "AKIATEST", AWS_SECRET_ACCESS_KEY: "hush-hush" };
    const end = await run(backupOf(vm), { repository }, env);
    expectFailed(end, "RepositoryUnreachable");
    expect(end.stderr).not.toContain("hush-hush");
    // The deadline ends the waiting too.
    const deadline = new Date(Date.now() + 1500).toISOString();
    expectFailed(await run(backupOf(vm), { repository, deadline }, env), "DeadlineExceeded");
  });

  test.skipIf(skipped || skipWithout("s3"))(
    "RepositoryRefused, RepositoryMissing, and a whole backup with the right credentials: S3",
    async () => {
      const repo = await world.s3Repo("orders");
      const repository = { url: repo.url, keyFile: repo.keyFile };
      expectFailed(await run(backupOf(vm), { repository }, { ...repo.env, AWS_SECRET_ACCESS_KEY: "wrong" }), "RepositoryRefused");
      const elsewhere = { ...repository, url: repo.url.replace("s3://backups/", "s3://no-such-bucket/") };
      expectFailed(await run(backupOf(vm), { repository: elsewhere }, repo.env), "RepositoryMissing");
      succeeded(await run(backupOf(vm), { repository }, repo.env));
    },
  );

  test("SourceLost: the machine is stopped while it is read", async () => {
    const steps = world.output("steps");
    const { ended } = (await placeIn(world, backupOf(vm))).start({ env: { THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: "opened" } });
    await reachStep(steps, "opened");
    await world.lab.virsh("destroy", vm.name);
    rmSync(steps);
    expectFailed(await ended, "SourceLost", /was stopped/);
    expect(await vm.leftovers()).toEqual([]);
  });

  test("a link in the place of a stopped machine's image leads a tenant's backup nowhere", async () => {
    const away = join(world.dir, "moved");
    renameSync(vm.path(), away);
    symlinkSync(away, vm.path());
    const freeze = { mode: "Auto", by: "controller", timeoutSeconds: 5 } as const;
    expectFailed(await run(backupOf(vm, { freeze })), "DiskNotSupported", /outside of the machine's volumes/);
    // On a host of one's own links are one's own affair.
    expect(succeeded(await run(backupOf(vm))).point?.consistency).toBe("offline");
    expect(await vm.leftovers()).toEqual([]);
  });
});
