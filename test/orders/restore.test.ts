import { execFileSync, spawnSync } from "node:child_process";
import { globSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { open, constants } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RestoreWork } from "../../src/api/index.ts";
import { World } from "../acceptance/world.ts";
import { compareRaw, createImage, qemuIo, rawCopy, skipWithout } from "../lab/index.ts";
import type { BackupJson } from "../support/thinstream.ts";
import { placeIn, expectFailed, succeeded } from "./ordered-vm.ts";
import { type AgentEnd, follow } from "./placed-order.ts";
import { onSmallFileSystem } from "./small-file-system.ts";

const MiB = 2 ** 20;
const SIZE = 32 * MiB;
const skipped = skipWithout("host");

function hasLoopDevices(): boolean {
  const found = spawnSync("losetup", ["--find"], { encoding: "utf8" });
  if (found.status === 0) return true;
  process.stderr.write(`skipped: no loop devices here: ${(found.stderr ?? String(found.error)).trim()}\n`);
  return false;
}

describe.skipIf(skipped)("an ordered restore", () => {
  let world: World;
  let point: string;
  const truth = new Map<string, string>();
  beforeAll(async () => {
    world = await World.start("host");
    const images: string[] = [];
    for (const name of ["root", "data"]) {
      const path = await createImage(join(world.dir, `${name}.qcow2`), { size: SIZE });
      await qemuIo(path, "write -P 7 0 2M", `write -P 8 ${name === "root" ? 9 : 20}M 64k`, "write -P 9 31M 1M");
      images.push("--image", `${name}=${path}`);
      truth.set(name, await rawCopy(path));
    }
    point = (await world.json<BackupJson>("backup", [...images, "--vm", "team-a/web"])).point;
  });
  afterAll(async () => world?.stop());

  function volume(): string {
    const dir = world.output("volume");
    mkdirSync(dir);
    return dir;
  }

  async function restore(disks: RestoreWork["disks"], from: string = point): Promise<AgentEnd> {
    return await (await placeIn(world, { type: "restore", point: from, disks })).run();
  }

  const file = (disk: string, path: string): RestoreWork["disks"][number] => ({ disk, path, mode: "Filesystem" });

  test("makes the files of empty volumes, thin and owned as QEMU of KubeVirt needs them, with progress", async () => {
    const paths = new Map([["root", join(volume(), "disk.img")], ["data", join(volume(), "disk.img")]]); // prettier-ignore
    const placed = await placeIn(world, { type: "restore", point, disks: [...paths].map(([disk, path]) => file(disk, path)) });
    const running = placed.start();
    const phases = await follow(running);
    expect(phases).toEqual(["Starting", "Copying", "Ended"].filter((phase) => phases.some((seen) => seen === phase)));
    expect(succeeded(await running.ended).message).toMatch(/^Restored 2 disks of team-a\/web as of [\d-]+T[\d:]+Z \(/);
    for (const [name, path] of paths) {
      const { uid, gid, mode, size, blocks } = statSync(path);
      expect([uid, gid, mode & 0o777, size]).toEqual([process.getuid?.() === 0 ? 107 : process.getuid?.(), process.getuid?.() === 0 ? 107 : process.getgid?.(), 0o660, SIZE]); // prettier-ignore
      expect(blocks * 512).toBeLessThanOrEqual(3.2 * MiB);
      expect(await compareRaw(path, truth.get(name) ?? "")).toBeUndefined();
    }
  });

  test("overwrites a file that is there, keeps its owner and a larger size, and touches no other disk", async () => {
    const path = join(volume(), "disk.img");
    writeFileSync(path, Buffer.alloc(SIZE + MiB, 0xee), { mode: 0o600 });
    const before = statSync(path);
    succeeded(await restore([file("data", path)]));
    const after = statSync(path);
    expect([after.ino, after.uid, after.mode, after.size]).toEqual([before.ino, before.uid, before.mode, SIZE + MiB]);
    expect(readFileSync(path).subarray(SIZE).equals(Buffer.alloc(MiB))).toBe(true);
    truncateSync(path, SIZE);
    expect(await compareRaw(path, truth.get("data") ?? "")).toBeUndefined();
    // Once more is the same.
    succeeded(await restore([file("data", path)]));
    expect(await compareRaw(path, truth.get("data") ?? "")).toBeUndefined();
  });

  test.skipIf(skipped || !hasLoopDevices())(
    "onto a block volume, old content gone and zeros without room; refused while it is held",
    async () => {
      const backing = join(volume(), "backing");
      writeFileSync(backing, Buffer.alloc(SIZE + MiB, 0xee));
      const device = execFileSync("losetup", ["--find", "--show", backing], { encoding: "utf8" }).trim();
      try {
        const target = { disk: "root", path: device, mode: "Block" } as const;
        const held = await open(device, constants.O_RDONLY | constants.O_EXCL);
        expectFailed(await restore([target]), "TargetInUse");
        await held.close();
        succeeded(await restore([target]));
        execFileSync("sync");
        const content = readFileSync(device);
        expect(content.subarray(0, SIZE).equals(readFileSync(truth.get("root") ?? ""))).toBe(true);
        // Beyond the disk the device is as it was.
        expect(content.subarray(SIZE).equals(Buffer.alloc(MiB, 0xee))).toBe(true);
        expect(statSync(backing).blocks * 512).toBeLessThanOrEqual(4.5 * MiB);
        truncateSync(backing, SIZE / 2);
        execFileSync("losetup", ["--set-capacity", device]);
        expectFailed(await restore([target]), "TargetTooSmall", /has 16777216 bytes, the disk needs 33554432/);
      } finally {
        execFileSync("losetup", ["--detach", device]);
      }
    },
  );

  test("refuses what it cannot restore to, and leaves no file that it made", async () => {
    const dir = volume();
    const at = (name: string): string => join(dir, name);
    writeFileSync(at("small"), "x");
    mkdirSync(at("directory"));
    writeFileSync(at("victim"), "precious");
    symlinkSync(at("victim"), at("link"));
    const fresh = file("root", at("fresh"));
    expectFailed(await restore([fresh, file("data", at("small"))]), "TargetTooSmall");
    expectFailed(await restore([fresh, file("data", at("directory"))]), "TargetNotUsable", /is no file/);
    expectFailed(await restore([fresh, file("data", at("link"))]), "TargetNotUsable", /symbolic link/);
    expectFailed(await restore([fresh, file("data", at("absent/disk.img"))]), "TargetNotUsable");
    expectFailed(await restore([fresh, { disk: "data", path: at("small"), mode: "Block" }]), "TargetNotUsable", /no block device/);
    expectFailed(await restore([{ disk: "root", path: at("absent"), mode: "Block" }]), "TargetNotUsable", /is not there/);
    expectFailed(await restore([fresh, file("root", at("other"))]), "TargetNotUsable", /twice/);
    expectFailed(await restore([fresh, file("swap", at("other"))]), "TargetNotUsable", /has no disk swap/);
    expectFailed(await restore([fresh], "ffffffffffff-1"), "PointNotFound");
    expect(readdirSync(dir).toSorted()).toEqual(["directory", "link", "small", "victim"]);
    expect(readFileSync(at("victim"), "utf8")).toBe("precious");
  });

  test("a volume that is too small for the data is full, and the file that was made for it goes", async () => {
    const mount = volume();
    await onSmallFileSystem(mount, 2, async () => {
      expectFailed(await restore([file("root", join(mount, "disk.img"))]), "TargetFull");
      expect(readdirSync(mount)).toEqual([]);
    });
  });

  test("of a damaged point fails before anybody takes it for whole, and leaves no file that it made", async () => {
    const path = await createImage(join(world.dir, "fragile"), { size: 4 * MiB, format: "raw" });
    execFileSync("dd", ["if=/dev/urandom", `of=${path}`, "bs=1M", "count=4", "conv=notrunc", "status=none"]);
    const packs = (): string[] => globSync("packs/*/*/*", { cwd: world.repo.dir });
    const before = packs();
    const { point: fragile } = await world.json<BackupJson>("backup", ["--image", `vda=${path}`, "--vm", "fragile"]);
    for (const pack of packs().filter((name) => !before.includes(name))) truncateSync(join(world.repo.dir, pack), 100);
    const dir = volume();
    expectFailed(await restore([file("vda", join(dir, "disk.img"))], fragile), "PointDamaged", /is damaged/);
    expect(readdirSync(dir)).toEqual([]);
  });

  test("SIGTERM in the middle removes what was made", async () => {
    const path = await createImage(join(world.dir, "bulk"), { size: 192 * MiB, format: "raw" });
    execFileSync("dd", ["if=/dev/urandom", `of=${path}`, "bs=1M", "count=192", "conv=notrunc", "status=none"]);
    const bulk = await world.json<BackupJson>("backup", ["--image", `bulk=${path}`, "--vm", "bulk", "--compression", "none"]);
    const dir = volume();
    const running = (await placeIn(world, { type: "restore", point: bulk.point, disks: [file("bulk", join(dir, "disk.img"))] })).start();
    await follow(running, "Copying");
    running.child.kill("SIGTERM");
    expectFailed(await running.ended, "Cancelled");
    expect(readdirSync(dir)).toEqual([]);
  });
});
