import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { constants, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { open, truncate } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { BackupSource, ImageStep } from "../../src/agent/index.ts";
import { createImage, type LibvirtLab, qemuIo, rawCopy, skipWithout, startLibvirt, tempDir } from "../lab/index.ts";
import { fact, images, ours, servers } from "./images.ts";
import { levels, Machine, MiB, readDisk, reasonOf } from "./machine.ts";

const skipped = skipWithout("host");

function qemuImg(...args: string[]): string {
  return execFileSync("qemu-img", args, { encoding: "utf8" });
}

/** Reads every disk and compares it with what qemu-img makes of the image. Returns the bytes of each state. */
async function expectAsConverted(source: BackupSource, paths: readonly string[], base?: Buffer): Promise<Record<string, number>[]> {
  const all: Record<string, number>[] = [];
  for (const [index, disk] of source.disks.entries()) {
    const counts: Record<string, number> = {};
    const content = await readDisk(disk, base, counts);
    const wanted = readFileSync(await rawCopy(paths[index] ?? ""));
    expect([disk.name, content.length, content.equals(wanted)]).toEqual([disk.name, wanted.length, true]);
    all.push(counts);
  }
  return all;
}

function hasLoopDevices(): boolean {
  const found = spawnSync("losetup", ["--find"], { encoding: "utf8" });
  if (found.status === 0) return true;
  process.stderr.write(`skipped: no loop devices here: ${(found.stderr ?? String(found.error)).trim()}\n`);
  return false;
}

describe.skipIf(skipped)("every kind of image", () => {
  test("A22: is read as qemu-img reads it, and thin where it is thin", async () => {
    const dir = tempDir("kinds");
    const size = 16 * MiB;
    const writes = ["write -P 1 0 1M", "write -P 2 5M 4k", "write -P 3 9M 512", "write -z 512k 128k", "discard 256k 64k"];
    const v2 = await createImage(join(dir, "v2"), { size, compat: "0.10" });
    const small = await createImage(join(dir, "small"), { size, clusterSize: 4096 });
    const sub = await createImage(join(dir, "sub"), { size, options: ["extended_l2=on"], clusterSize: 131072 });
    const bottom = await createImage(join(dir, "bottom"), { size: 8 * MiB });
    await qemuIo(bottom, "write -P 9 0 6M");
    const middle = await createImage(join(dir, "middle"), { size: 12 * MiB, backingFile: bottom });
    await qemuIo(middle, "write -P 8 7M 3M");
    const top = await createImage(join(dir, "top"), { size, backingFile: middle });
    const raw = await createImage(join(dir, "raw, with a comma: and 'more'"), { size, format: "raw" });
    const paths = [v2, small, sub, top, raw];
    for (const path of paths) await qemuIo(path, ...writes);
    const source = await images(dir, paths);
    expect(levels(source)).toEqual({ vda: "full", vdb: "full", vdc: "full", vdd: "full", vde: "full" });
    expect(reasonOf(source, "vda")).toContain("version 2");
    expect(reasonOf(source, "vde")).toContain("raw image");
    for (const { data = 0, clean } of await expectAsConverted(source, paths)) {
      expect(clean).toBeUndefined();
      expect(data).toBeLessThanOrEqual(11 * MiB);
    }
    expect([await source.commit(), source.warnings, ours(dir)]).toEqual([[], [], []]);
  });

  test("a raw file that ends within a sector is kept as a machine sees it, and that is said", async () => {
    const dir = tempDir("odd");
    const bytes = randomBytes(70_001);
    const path = join(dir, "odd");
    writeFileSync(path, bytes);
    const source = await images(dir, [path]);
    const content = await readDisk(source.disks[0]!, undefined);
    expect(content.equals(Buffer.concat([bytes, Buffer.alloc(70_144 - 70_001)]))).toBe(true);
    expect(source.warnings).toEqual([expect.stringContaining("has 70001 bytes; kept as the 70144 bytes")]);
    await source.abort();
  });

  test.skipIf(skipped || !hasLoopDevices())("a block device is raw whatever it begins with; one that is taken is refused", async () => {
    const dir = tempDir("dev");
    const file = await createImage(join(dir, "file"), { size: 4 * MiB });
    await truncate(file, 4 * MiB);
    const device = execFileSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).trim();
    try {
      const source = await images(dir, [device]);
      const content = await readDisk(source.disks[0]!, undefined);
      expect(content.equals(readFileSync(file))).toBe(true);
      // While it is read nobody can mount it.
      await expect(open(device, constants.O_RDONLY | constants.O_EXCL)).rejects.toMatchObject({ code: "EBUSY" });
      await source.commit();
      const taken = await open(device, constants.O_RDONLY | constants.O_EXCL);
      await expect(images(dir, [device])).rejects.toMatchObject({ code: "image-in-use", message: expect.stringContaining(device) });
      await taken.close();
      await (await images(dir, [device])).abort();
      expect([servers(dir), ours(dir)]).toEqual([[], []]);
    } finally {
      execFileSync("losetup", ["--detach", device]);
    }
  });
});

describe.skipIf(skipped)("what cannot be read", () => {
  test("is refused in one clear line, and nothing is left", async () => {
    const dir = tempDir("bad");
    const good = await createImage(join(dir, "good"), { size: MiB });
    const at = (name: string): string => join(dir, name);
    mkdirSync(at("directory"));
    execFileSync("mkfifo", [at("pipe")]);
    writeFileSync(at("empty"), "");
    qemuImg("create", "-q", "-f", "vmdk", at("vmdk"), "1M");
    createEncrypted(at("locked"));
    qemuImg("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "gone", at("orphan"), "1M");
    const broken = readFileSync(good);
    broken.writeUInt32BE(77, 4);
    writeFileSync(at("broken"), broken);
    const corrupt = readFileSync(good);
    corrupt.writeUInt8(2, 79); // incompatible feature bit 1
    writeFileSync(at("corrupt"), corrupt);
    const lines: [string, RegExp][] = [
      ["none", /^the image .*none does not exist$/],
      ["good/none", /^the image .*none does not exist$/],
      ["directory", /is a directory, not an image$/],
      ["pipe", /is neither a file nor a block device$/],
      ["empty", /^the image .*empty is empty$/],
      ["vmdk", /^the image .*vmdk is of format vmdk$/],
      ["locked", /^the image .*locked is encrypted$/],
      ["orphan", /^the image .*orphan cannot be read: .*gone.*No such file or directory/],
      ["broken", /^the image .*broken cannot be read: Unsupported qcow2 version 77$/],
      ["corrupt", /^the image .*corrupt is marked as corrupt$/],
    ];
    for (const [name, message] of lines) {
      const code = "image-unusable";
      await expect(images(dir, [good, at(name)])).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    }
    const told = { images: [{ name: "vda", path: at("empty"), format: "qcow2" }] };
    await expect(images(dir, [], told)).rejects.toMatchObject({ code: "image-unusable", message: expect.stringContaining("not in qcow2") });
    expect([servers(dir), ours(dir)]).toEqual([[], []]);
  });

  test("a tool that is not there is named", async () => {
    const dir = tempDir("tools");
    const image = await createImage(join(dir, "a"), { size: MiB });
    const path = process.env["PATH"];
    onTestFinished(() => void (process.env["PATH"] = path));
    mkdirSync(join(dir, "bin"));
    const which = (tool: string): string => execFileSync("which", [tool], { encoding: "utf8", env: { PATH: path } }).trim();
    process.env["PATH"] = join(dir, "bin");
    for (const tool of ["qemu-img", "setpriv", "qemu-nbd"]) {
      const message = expect.stringContaining(`${tool} `);
      await expect(images(dir, [image])).rejects.toMatchObject({ code: "tool-missing", message });
      symlinkSync(which(tool), join(dir, "bin", tool));
    }
    await (await images(dir, [image])).abort();
    expect(ours(dir)).toEqual([]);
  });

  test("something that writes to it during the backup ends it: no half-old point", async () => {
    const dir = tempDir("moving");
    const path = await createImage(join(dir, "raw"), { size: 4 * MiB, format: "raw" });
    const source = await images(dir, [path]);
    const handle = await open(path, "r+");
    await handle.write(Buffer.alloc(512, 7), 0, 512, MiB);
    await handle.close();
    const message = `the image ${path} was written to while it was read`;
    await expect(readDisk(source.disks[0]!, undefined)).rejects.toMatchObject({ code: "image-changed", message });
    expect(await source.commit()).toEqual([`the image ${path} was written to during the backup`]);
  });
});

describe.skipIf(skipped)("bitmaps", () => {
  test("of a chain, of another backing file, of a disk that grew or shrank: used only where they count every change", async () => {
    const dir = tempDir("maps");
    const size = 8 * MiB;
    const base = await createImage(join(dir, "base"), { size });
    await qemuIo(base, "write -P 1 0 2M");
    const before = readFileSync(await rawCopy(base));
    qemuImg("bitmap", "--add", base, "c1");
    const info = JSON.parse(qemuImg("info", "--output=json", base)) as unknown;
    await qemuIo(base, "write -P 2 1M 64k");
    const bases = [fact("c1", size, info)];
    const plain = await images(dir, [base], { bases });
    expect(levels(plain)).toEqual({ vda: "incremental" });
    expect(await expectAsConverted(plain, [base], before)).toEqual([{ clean: size - 65536, data: 65536 }]);
    await plain.abort();

    qemuImg("resize", "-q", base, "10M");
    await qemuIo(base, "write -P 4 9M 64k");
    const grown = await images(dir, [base], { bases });
    expect(levels(grown)).toEqual({ vda: "incremental" });
    expect((await expectAsConverted(grown, [base], before))[0]?.["clean"]).toBe(size - 65536);
    await grown.abort();
    qemuImg("resize", "-q", "--shrink", base, "6M");
    const shrunk = await images(dir, [base], { bases });
    expect([levels(shrunk), reasonOf(shrunk, "vda")]).toEqual([{ vda: "full" }, expect.stringContaining("smaller")]);
    await expectAsConverted(shrunk, [base]);
    await shrunk.abort();

    const top = await createImage(join(dir, "top"), { size, backingFile: base });
    const without = await images(dir, [top], { bases });
    expect([levels(without), reasonOf(without, "vda")]).toEqual([{ vda: "full" }, "the image no longer holds the bitmap c1"]);
    await without.abort();
    // As libvirt's snapshots leave it: each image of the chain counts its own share under the same name.
    qemuImg("bitmap", "--add", top, "c1");
    await qemuIo(top, "write -P 3 3M 64k");
    const shared = await images(dir, [top], { bases });
    expect([levels(shared), reasonOf(shared, "vda")]).toEqual([{ vda: "full" }, expect.stringContaining("several images")]);
    await expectAsConverted(shared, [top]);
    await shared.abort();
    qemuImg("bitmap", "--remove", base, "c1");
    const rebased = await images(dir, [top], { bases });
    expect([levels(rebased), reasonOf(rebased, "vda")]).toEqual([{ vda: "full" }, expect.stringContaining("another backing file")]);
    await rebased.abort();
    expect([servers(dir), ours(dir)]).toEqual([[], []]);
  });

  test("A27: a writer killed by SIGKILL leaves its bitmap in use: a full that says so; the image is not touched", async () => {
    const dir = tempDir("killed");
    const image = await createImage(join(dir, "a"), { size: 8 * MiB });
    qemuImg("bitmap", "--add", image, "c1");
    const writer = spawn("qemu-io", ["-f", "qcow2", image], { stdio: ["pipe", "pipe", "ignore"] });
    writer.stdin.write("write -P 5 4M 64k\nflush\n");
    await new Promise((resolve) => writer.stdout.once("data", resolve));
    await sleep(200);
    // While it writes, the image is in use.
    await expect(images(dir, [image])).rejects.toMatchObject({ code: "running" });
    writer.kill("SIGKILL");
    await new Promise((resolve) => writer.once("exit", resolve));
    const was = readFileSync(image);
    const source = await images(dir, [image], { bases: [fact("c1", 8 * MiB)] });
    expect([levels(source), reasonOf(source, "vda")]).toEqual([{ vda: "full" }, expect.stringContaining("was not saved")]);
    await expectAsConverted(source, [image]);
    await source.commit();
    expect(readFileSync(image).equals(was)).toBe(true);
  });
});

describe.skipIf(skipped)("the end of a run", () => {
  test.each<ImageStep>(["directory-made", "exported", "servers-ended"])(
    "A29: SIGKILL at %s leaves no process, and the next run clears the rest",
    async (step) => {
      const dir = tempDir("dead");
      const image = await createImage(join(dir, "a"), { size: MiB });
      const killed = spawnSync(process.execPath, [join(import.meta.dirname, "image-once.ts"), dir, image, step], { encoding: "utf8" });
      expect([killed.signal, killed.stderr]).toEqual(["SIGKILL", expect.not.stringContaining("Error")]);
      for (let tries = 0; servers(dir).length > 0 && tries < 50; tries += 1) await sleep(20);
      expect([servers(dir), ours(dir)]).toEqual([[], [expect.stringMatching(/^ts-/)]]);
      // Nothing holds the image: a machine could start on it.
      await qemuIo(image, "write -P 1 0 64k");
      const next = await images(dir, [image]);
      expect(ours(dir)).toHaveLength(1);
      await next.commit();
      expect([servers(dir), ours(dir)]).toEqual([[], []]);
    },
  );

  test("an abort in the middle of a read rejects with its reason, and leaves no process, socket or directory", async () => {
    const dir = tempDir("abort");
    const image = await createImage(join(dir, "a"), { size: 64 * MiB });
    await qemuIo(image, "write -P 1 0 64M");
    const source = await images(dir, [image]);
    const stop = new AbortController();
    const reading = source.disks[0]!.read([{ offset: 0, into: new Uint8Array(64 * MiB) }], stop.signal);
    stop.abort(new Error("enough"));
    await expect(reading).rejects.toThrow("enough");
    await source.abort();
    await source.abort();
    expect([servers(dir), ours(dir)]).toEqual([[], []]);
  });
});

describe("a running machine", () => {
  let lab: LibvirtLab;
  beforeAll(async () => {
    if (!skipped) lab = await startLibvirt("host");
  });
  afterAll(async () => lab?.stop());

  test.skipIf(skipped)("has its raw and qcow2 images to itself, and cannot start on one that is being read", async () => {
    const vm = new Machine(lab);
    const raw = await vm.disk("vda", 8 * MiB, { format: "raw" });
    const qcow2 = await vm.disk("vdb", 8 * MiB);
    await vm.start();
    for (const path of [raw, qcow2]) {
      const message = `the image ${path} is in use by a running machine`;
      await expect(images(lab.dir, [path])).rejects.toMatchObject({ code: "running", message });
    }
    await vm.domain.destroy();
    for (const path of [raw, qcow2]) {
      const source = await images(lab.dir, [path]);
      await expect(vm.domain.start()).rejects.toThrow(/lock/);
      await expectAsConverted(source, [path]);
      await source.commit();
    }
    await vm.domain.start();
    await vm.domain.destroy();
    expect(ours(lab.dir)).toEqual([]);
  });
});

/** QEMU times its key derivation and now and then gives up with "Unable to get accurate CPU usage", where the clock of a busy machine jumped. */
function createEncrypted(path: string): void {
  const luks = ["encrypt.format=luks", "encrypt.key-secret=s", "encrypt.iter-time=10"].join();
  for (let tries = 1; ; tries++) {
    try {
      qemuImg("create", "-q", "--object", "secret,id=s,data=abc", "-f", "qcow2", "-o", luks, path, "1M");
      return;
    } catch (error) {
      if (tries === 20 || !/accurate CPU usage/.test(String(error))) throw error;
    }
  }
}
