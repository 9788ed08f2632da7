import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectRestore, Vm } from "../acceptance/vm.ts";
import { World } from "../acceptance/world.ts";
import { createImage, qemuIo, rawCopy, skipWithout } from "../lab/index.ts";
import { backupOf, placeIn, expectFailed, succeeded, takenOf } from "./ordered-vm.ts";
import { digestOf, follow, reachStep } from "./placed-order.ts";

const skipped = skipWithout("host");
const never = new AbortController().signal;

describe.skipIf(skipped)("an ordered backup of a running machine", () => {
  let world: World;
  let vm: Vm;
  const names = { root: "ua-root", data: "ua-data" };
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "64M", spec: { alias: "ua-root" } }, vdb: { size: "32M", spec: { alias: "ua-data" } } });
    await vm.write("vda", "write -P 1 0 8M");
    await vm.write("vdb", "write -P 2 1M 4M");
  });
  afterAll(async () => world?.stop());

  /** The truth about the disks under the names that the point has for them. */
  async function references(): Promise<Map<string, string>> {
    const found = await vm.references();
    return new Map([["root", found.get("vda") ?? ""], ["data", found.get("vdb") ?? ""]]); // prettier-ignore
  }

  test("full, then incremental, by volume names, with its progress on the channel; both restore", async () => {
    const before = await references();
    const first = await placeIn(world, backupOf(vm, {}, { diskNames: names }));
    const running = first.start();
    const phases = await follow(running);
    const full = succeeded(await running.ended);
    // What is short may be over before it is asked for; the order of what is seen is always this.
    const order = ["Starting", "Copying", "Committing", "Ended"];
    expect(phases).toEqual(order.filter((phase) => phases.some((seen) => seen === phase)));
    expect(phases.at(-1)).toBe("Ended");
    expect(full.point).toMatchObject({ level: "full", consistency: "crash", found: false });
    expect(full.disks?.map(({ name, level, size }) => [name, level, size])).toEqual([["data", "full", 32 * 2 ** 20], ["root", "full", 64 * 2 ** 20]]); // prettier-ignore
    expect(full.totals?.readBytes).toBeGreaterThanOrEqual(12 * 2 ** 20);
    await expectRestore(world, takenOf(vm, full, before));

    await vm.write("vdb", "write -P 3 16M 1M");
    const after = await references();
    const incremental = succeeded(await (await placeIn(world, backupOf(vm, {}, { diskNames: names }))).run());
    expect(incremental.point).toMatchObject({ level: "incremental", found: false });
    expect(incremental.totals).toMatchObject({ size: 96 * 2 ** 20, dirtyBytes: 2 ** 20 });
    await expectRestore(world, takenOf(vm, incremental, after));
    await vm.expectTidy();
    const { vm: kept } = await world.json<{ vm: string }>("show", [incremental.point?.id ?? ""]);
    expect(kept).toBe(`team-a/${vm.name}`);
  });

  test("leaves out a disk by its volume's name, and goes on incrementally when it is back", async () => {
    const without = succeeded(await (await placeIn(world, backupOf(vm, { excludeDisks: ["data"] }, { diskNames: names }))).run());
    expect(without.disks?.map(({ name, level }) => [name, level])).toEqual([["root", "incremental"]]);
    await vm.write("vdb", "write -P 4 20M 64k");
    const truth = await references();
    const back = succeeded(await (await placeIn(world, backupOf(vm, {}, { diskNames: names }))).run());
    expect(back.disks?.map(({ name, level, dirtyBytes }) => [name, level, dirtyBytes])).toEqual([["data", "incremental", 65_536], ["root", "incremental", 0]]); // prettier-ignore
    await expectRestore(world, takenOf(vm, back, truth));
    expectFailed(
      await (await placeIn(world, backupOf(vm, { disks: ["absent"] }, { diskNames: names }))).run(),
      "DiskNotFound",
      /absent.*its disks are root, data/i,
    );
    await vm.expectTidy();
  });

  test("killed between commit and message: the second attempt answers with that point, makes no other, and tidies libvirt", async () => {
    await vm.write("vda", "write -P 5 10M 64k");
    const truth = await references();
    const first = await placeIn(world, backupOf(vm, {}, { diskNames: names }));
    const steps = world.output("steps");
    const { ended, child } = first.start({ env: { THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: "committed" } });
    await reachStep(steps, "committed");
    const points = await world.points();
    child.kill("SIGKILL");
    expect(await ended).toMatchObject({ signal: "SIGKILL", result: null });
    expect(await vm.leftovers()).not.toEqual([]);
    const again = await placeIn(world, backupOf(vm, {}, { diskNames: names }), { run: { ...first.order.run, attempt: 2 } });
    const result = succeeded(await again.run());
    expect(result).toMatchObject({ point: { id: points.at(-1)?.id, found: true }, warnings: [] });
    expect(await world.points()).toEqual(points);
    await vm.expectTidy();
    await expectRestore(world, takenOf(vm, result, truth));
    // Another run of the same machine is another point, and it stands on this one.
    const next = succeeded(await (await placeIn(world, backupOf(vm, {}, { diskNames: names }))).run());
    expect(next.point).toMatchObject({ level: "incremental", found: false });
    expect(await world.points()).toHaveLength(points.length + 1);
  });

  test("SIGTERM while it copies leaves nothing in libvirt, and is worth another try", async () => {
    const points = await world.points();
    const steps = world.output("steps");
    const placed = await placeIn(world, backupOf(vm));
    const { ended, child } = placed.start({ env: { THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: "opened" } });
    await reachStep(steps, "opened");
    child.kill("SIGTERM");
    expectFailed(await ended, "Cancelled", /SIGTERM/);
    await vm.expectTidy();
    expect(await world.points()).toEqual(points);
  });

  test("the deadline undoes a run that is under way, and refuses one that comes too late", async () => {
    const points = await world.points();
    expectFailed(
      await (await placeIn(world, backupOf(vm), { deadline: new Date(Date.now() - 1000).toISOString() })).run(),
      "DeadlineExceeded",
    );
    const steps = world.output("steps");
    const placed = await placeIn(world, backupOf(vm), { deadline: new Date(Date.now() + 4000).toISOString() });
    const { ended } = placed.start({ env: { THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: "opened" } });
    await reachStep(steps, "opened");
    await sleep(Math.max(0, Date.parse(placed.order.deadline) - Date.now()) + 100);
    rmSync(steps);
    expectFailed(await ended, "DeadlineExceeded", /web-1 has passed/);
    await vm.expectTidy();
    expect(await world.points()).toEqual(points);
  });

  test("the controller freezes: the phases, its answer, and what the point then is", async () => {
    await world.lab.virsh("resume", vm.name);
    const freeze = { mode: "Auto", by: "controller", timeoutSeconds: 20 } as const;
    const answers = [
      [{ ok: true, until: new Date(Date.now() + 60_000) }, "filesystem", /^$/],
      [{ ok: true, until: new Date(Date.now() - 1) }, "crash", /thawed again/],
      [{ ok: false, message: "the guest agent is not connected" }, "crash", /not connected/],
    ] as const;
    for (const [answer, consistency, warning] of answers) {
      const running = (await placeIn(world, backupOf(vm, { freeze }))).start();
      await follow(running, "Freeze");
      // Nothing has begun yet.
      expect(await world.lab.virsh("domjobinfo", vm.name)).toMatch(/None/);
      await running.channel.frozen(answer, never);
      const phases = await follow(running);
      const result = succeeded(await running.ended);
      expect(phases.at(-1)).toBe("Ended");
      expect(result.point?.consistency).toBe(consistency);
      expect(result.warnings.join()).toMatch(warning);
    }
    // A controller that starts anew while the guest is frozen freezes again, and is not to thaw before the job has begun.
    const steps = world.output("steps");
    const twice = (await placeIn(world, backupOf(vm, { freeze }))).start({
      env: { THINSTREAM_STEPS: steps, THINSTREAM_PAUSE_AT: "frozen" },
    });
    await follow(twice, "Freeze");
    const answer = { ok: true, until: new Date(Date.now() + 60_000) } as const;
    await twice.channel.frozen(answer, never);
    await reachStep(steps, "frozen");
    await twice.channel.frozen(answer, never);
    rmSync(steps);
    await follow(twice);
    expect(succeeded(await twice.ended).point?.consistency).toBe("filesystem");
    const required = { ...freeze, mode: "Required", timeoutSeconds: 1 } as const;
    const silent = (await placeIn(world, backupOf(vm, { freeze: required }))).start();
    expectFailed(await silent.ended, "GuestNotFrozen", /took longer than 1 s/);
    const refused = (await placeIn(world, backupOf(vm, { freeze: required }))).start();
    await follow(refused, "Freeze");
    await refused.channel.frozen({ ok: true, until: new Date() }, never);
    expectFailed(await refused.ended, "GuestNotFrozen", /thawed again/);
    await world.lab.virsh("suspend", vm.name);
    // A paused guest is not asked to freeze at all.
    const paused = (await placeIn(world, backupOf(vm, { freeze }))).start();
    expect(await follow(paused)).not.toContain("Freeze");
    expect(succeeded(await paused.ended).point?.consistency).toBe("crash");
    await vm.expectTidy();
  });

  test("what is captured beside the order comes with the point, byte for byte; what was tampered with does nothing", async () => {
    const files = {
      "kubernetes.json": JSON.stringify({ kind: "VirtualMachine", secret: "s3cr3t-é" }),
      "notes.txt": "",
      "large.bin": "ab".repeat(400_000),
    };
    const captures = Object.entries(files).map(([name, text]) => ({ name, digest: digestOf(Buffer.from(text)) }));
    const placed = await placeIn(world, backupOf(vm, { captures }));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(placed.dir, name), text);
    const end = await placed.run();
    const point = succeeded(end).point?.id ?? "";
    expect(end.stderr).not.toContain("s3cr3t");
    expect(end.stderr).not.toContain(placed.order.channel.key);

    const inspecting = (await placeIn(world, { type: "inspect", point })).start();
    await follow(inspecting, "Serving");
    const listed = await inspecting.channel.captures(never);
    expect(listed.point.captures.map(({ name }) => name)).toEqual(
      expect.arrayContaining([...Object.keys(files), "request.json", "domain.xml"]),
    );
    for (const [name, text] of Object.entries(files)) expect((await inspecting.channel.capture(name, never)).toString()).toBe(text);
    const request = JSON.parse((await inspecting.channel.capture("request.json", never)).toString()) as { run: unknown };
    expect(request.run).toEqual(placed.order.run);
    await expect(inspecting.channel.capture("../config", never)).rejects.toMatchObject({ code: "not-found" });
    await inspecting.channel.done(never);
    succeeded(await inspecting.ended);

    const points = await world.points();
    writeFileSync(join(placed.dir, "kubernetes.json"), `${files["kubernetes.json"]} `);
    expectFailed(await placed.run(), "WorkOrderTampered", /kubernetes.json beside the work order/);
    rmSync(join(placed.dir, "notes.txt"));
    writeFileSync(join(placed.dir, "kubernetes.json"), files["kubernetes.json"]);
    expectFailed(await placed.run(), "WorkOrderInvalid", /notes.txt .*cannot be read/);
    expect(await world.points()).toEqual(points);
  });

  test("an order that is not the one that was ordered is refused, with nothing touched", async () => {
    const points = await world.points();
    const placed = await placeIn(world, backupOf(vm));
    const digest = placed.digest();
    expectFailed(await placed.run({ digest: `sha256:${"0".repeat(64)}` }), "WorkOrderTampered", /SHA-256 differs/);
    expectFailed(await placed.run({ digest: "md5:1" }), "WorkOrderInvalid");
    writeFileSync(placed.file, readFileSync(placed.file, "utf8").replace("team-a", "team-b"));
    expectFailed(await placed.run({ digest }), "WorkOrderTampered");
    writeFileSync(placed.file, JSON.stringify({ ...placed.order, extra: true }));
    expectFailed(await placed.run(), "WorkOrderInvalid", /"extra"/);
    writeFileSync(placed.file, "x".repeat(2 ** 20 + 1));
    expectFailed(await placed.run(), "WorkOrderInvalid", /more than 1048576 bytes/);
    rmSync(placed.file);
    expectFailed(await placed.run({ digest }), "WorkOrderInvalid", /cannot be read/);
    expect(await world.points()).toEqual(points);
  });

  test("an upload limit is kept", async () => {
    await vm.write("vda", ...Array.from({ length: 8 }, (_, i) => `write -P ${i + 1} ${i * 1024 + 13}k 1M`));
    const random = await createImage(join(world.dir, "noise"), { size: 6 * 2 ** 20, format: "raw" });
    writeFileSync(random, randomBytes(6 * 2 ** 20));
    const images = [{ disk: "vda", path: random, format: "raw" as const }];
    const work = { ...backupOf(vm), vm: { name: "noise", uid: null }, source: { engine: "image" as const, images } };
    const began = performance.now();
    succeeded(await (await placeIn(world, work, { uploadBytesPerSecond: 2 * 2 ** 20 })).run());
    expect(performance.now() - began).toBeGreaterThan(2500);
  });
});

describe.skipIf(skipped)("an ordered backup of a stopped machine's images", () => {
  let world: World;
  beforeAll(async () => (world = await World.start("host")));
  afterAll(async () => world?.stop());

  const order = (images: { disk: string; path: string; format: "qcow2" | "raw" | null }[]) => ({
    ...backupOf({ world, name: "off", domain: { uuid: "0c9e4df2-54ee-4e9e-94a5-0d51ab1cfe11" } } as Vm),
    source: { engine: "image" as const, images },
  });

  test("is taken of its volumes, compared with the last point, and once for a run", async () => {
    const path = await createImage(join(world.dir, "disk.img"), { size: 16 * 2 ** 20, format: "raw" });
    await qemuIo(path, "write -P 7 0 4M");
    const truth = await rawCopy(path);
    const first = await placeIn(world, order([{ disk: "root", path, format: "raw" }]));
    const running = first.start();
    expect((await follow(running)).at(-1)).toBe("Ended");
    const result = succeeded(await running.ended);
    expect(result.point).toMatchObject({ level: "full", consistency: "offline" });
    await expectRestore(world, takenOf({ world } as Vm, result, new Map([["root", truth]])));
    const again = succeeded(
      await (await placeIn(world, order([{ disk: "root", path, format: "raw" }]), { run: { ...first.order.run, attempt: 2 } })).run(),
    );
    expect(again.point).toEqual({ ...result.point, found: true });
    await qemuIo(path, "write -P 8 8M 64k");
    const next = succeeded(await (await placeIn(world, order([{ disk: "root", path, format: "raw" }]))).run());
    expect(next.totals?.uploadedBytes).toBeLessThan(65_536);
  });

  test("does not follow a link or a backing file out of the volumes", async () => {
    const volume = join(world.dir, "volume");
    mkdirSync(volume);
    symlinkSync(world.repo.keyFile, join(volume, "disk.img"));
    expectFailed(
      await (await placeIn(world, order([{ disk: "root", path: join(volume, "disk.img"), format: "raw" }]))).run(),
      "DiskNotSupported",
      /outside of the machine's volumes/,
    );
    const overlay = await createImage(join(volume, "overlay"), {
      size: 2 ** 20,
      backingFile: await createImage(join(world.dir, "secret"), { size: 2 ** 20 }),
    });
    expectFailed(
      await (await placeIn(world, order([{ disk: "root", path: overlay, format: "qcow2" }]))).run(),
      "DiskNotSupported",
      /outside of the machine's volumes/,
    );
    expect(world.processes()).toEqual([]);
  });
});
