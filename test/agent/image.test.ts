import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BackupSource, openDomain, openImage } from "../../src/agent/index.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { createImage, type LibvirtLab, qemuIo, skipWithout, startLibvirt, tempDir } from "../lab/index.ts";
import { fact, images, ours, servers } from "./images.ts";
import { levels, Machine, MiB, readDisk, reasonOf } from "./machine.ts";

const skipped = skipWithout("host");

describe("images without a machine", () => {
  test.skipIf(skipped)(
    "A22: qcow2, a backing chain, an external data file and raw of odd size: the same bytes; nothing is left",
    async () => {
      const dir = tempDir("img");
      const base = await createImage(join(dir, "base"), { size: 8 * MiB });
      await qemuIo(base, "write -P 1 0 1M");
      const top = await createImage(join(dir, "top"), { size: 8 * MiB, backingFile: base });
      await qemuIo(top, "write -P 2 512k 1M");
      const overlay = await createImage(join(dir, "overlay"), { size: 4 * MiB, dataFile: join(dir, "store") });
      await qemuIo(overlay, "write -P 3 1M 64k");
      const raw = await createImage(join(dir, "raw"), { size: 4 * MiB, format: "raw" });
      truncateSync(raw, MiB + 512);
      await qemuIo(raw, "write -P 4 1M 512");
      const source = await images(dir, [top, overlay, raw]);
      expect(source.consistency).toBe("offline");
      const contents = [];
      for (const disk of source.disks) contents.push(await readDisk(disk, undefined));
      const wanted = [Buffer.alloc(8 * MiB), Buffer.alloc(4 * MiB), Buffer.alloc(MiB + 512)];
      wanted[0]!.fill(1, 0, MiB).fill(2, MiB / 2, 1.5 * MiB);
      wanted[1]!.fill(3, MiB, MiB + 65536);
      wanted[2]!.fill(4, MiB);
      expect(contents.map((bytes, index) => bytes.equals(wanted[index]!))).toEqual([true, true, true]);
      expect(servers(dir)).toHaveLength(3);
      await source.commit();
      await source.abort();
      expect(servers(dir)).toEqual([]);
      expect(ours(dir)).toEqual([]);
    },
  );

  test.skipIf(skipped)(
    "a persistent bitmap that is whole makes an incremental; one in use, gone or stopped makes a full that says why",
    async () => {
      const dir = tempDir("img");
      const image = await createImage(join(dir, "a"), { size: 8 * MiB });
      await qemuIo(image, "write -P 1 0 1M");
      execFileSync("qemu-img", ["bitmap", "--add", image, "c1"]);
      execFileSync("qemu-img", ["bitmap", "--add", "--disable", image, "c2"]);
      await qemuIo(image, "write -P 2 4M 64k", "write -z 0 64k");
      const source = await images(dir, [image], { bases: [fact("c1", 8 * MiB)] });
      const counts: Record<string, number> = {};
      await readDisk(source.disks[0]!, Buffer.alloc(8 * MiB), counts);
      expect([levels(source), source.disks[0]?.base, counts]).toEqual([
        { vda: "incremental" },
        "p",
        { clean: 8 * MiB - 131072, data: 131072 },
      ]);
      await source.commit();
      const stopped = await images(dir, [image], { bases: [fact("c2", 8 * MiB)] });
      expect([levels(stopped), reasonOf(stopped, "vda")]).toEqual([{ vda: "full" }, expect.stringContaining("stopped counting")]);
      await stopped.commit();
      // A writer that dies leaves its bitmaps in use.
      const script = `qemu-io -f qcow2 -c "write -P 3 5M 64k" -c "abort" ${image}`;
      expect(() => execFileSync("sh", ["-c", script], { stdio: "ignore" })).toThrow(/Command failed/);
      const dirty = await images(dir, [image], { bases: [fact("c1", 8 * MiB)] });
      expect([levels(dirty), reasonOf(dirty, "vda")]).toEqual([{ vda: "full" }, expect.stringContaining("not saved")]);
      await dirty.abort();
      expect(ours(dir)).toEqual([]);
    },
  );

  test.skipIf(skipped)("bad input: no image, no image format, two backups at once: one clear line", async () => {
    const dir = tempDir("img");
    await expect(images(dir, [join(dir, "none")])).rejects.toMatchObject({
      code: "image-unusable",
      message: expect.stringContaining("does not exist"),
    });
    const image = await createImage(join(dir, "a"), { size: MiB });
    const first = await images(dir, [image]);
    await expect(images(dir, [image])).rejects.toMatchObject({ code: "busy" });
    await first.abort();
    const wrong = openImage({
      images: [{ name: "vda", path: image, format: "vmdk" }],
      key: "k",
      name: "test",
      level: "auto",
      bases: [],
      runtimeDir: dir,
      signal: new AbortController().signal,
      log: silentLogger,
    });
    await expect(wrong).rejects.toMatchObject({ code: "image-unusable" });
    await expect(images(dir, [image], { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
    expect(ours(dir)).toEqual([]);
  });

  test.skipIf(skipped)("its qemu-nbd killed while it is read: an error that says so", async () => {
    const dir = tempDir("img");
    const image = await createImage(join(dir, "a"), { size: MiB });
    await qemuIo(image, "write -P 1 0 1M");
    const source = await images(dir, [image]);
    const pid = execFileSync("ps", ["-eo", "pid,args"], { encoding: "utf8" })
      .split("\n")
      .find((line) => line.includes("qemu-nbd") && line.includes(image));
    process.kill(Number(pid?.trim().split(" ")[0]), "SIGKILL");
    await expect(readDisk(source.disks[0]!, undefined)).rejects.toMatchObject({ code: "job-lost" });
    await source.abort();
    expect(ours(dir)).toEqual([]);
  });
});

describe("a domain that is off", () => {
  let lab: LibvirtLab;
  beforeAll(async () => {
    if (!skipped) lab = await startLibvirt("host");
  });
  afterAll(async () => lab?.stop());

  test.skipIf(skipped)(
    "A15 D2 D13: online, off with offline writes, off again, online again: every point is right and all but the first incremental",
    async () => {
      const vm = new Machine(lab);
      const path = await vm.disk("vda", 8 * MiB);
      await vm.define();
      const open = (): Promise<BackupSource> =>
        openDomain({
          uri: lab.uri,
          domain: vm.name,
          level: "auto",
          quiesce: "never",
          runtimeDir: lab.dir,
          repoTag: vm.tag,
          bases: vm.bases,
          committed: vm.committed,
          signal: new AbortController().signal,
          log: silentLogger,
        });
      const cold = await vm.take(await open());
      expect([levels(cold.source), cold.source.consistency]).toEqual([{ vda: "full" }, "offline"]);
      expect(cold.source.captures.map((capture) => capture.name)).toContain("domain-inactive.xml");
      await vm.domain.start();
      const full = await vm.take(await open());
      expect(levels(full.source)).toEqual({ vda: "full" });
      await vm.write("vda", 1, 0, 65536);
      await expect(images(lab.dir, [path])).rejects.toMatchObject({
        code: "running",
        message: `the image ${path} is in use by a running machine`,
      });
      const online = await vm.take(await open(), full);
      expect(levels(online.source)).toEqual({ vda: "incremental" });
      await vm.domain.destroy();
      await qemuIo(path, "write -P 2 1M 64k");
      vm.model("vda", 2, MiB, 65536);
      const off = await vm.take(await open(), online);
      expect([levels(off.source), off.source.disks[0]?.base, off.source.disks[0]?.checkpoint]).toEqual([
        { vda: "incremental" },
        "point-3",
        null,
      ]);
      await qemuIo(path, "write -P 3 2M 64k", "write -z 1M 64k");
      vm.model("vda", 3, 2 * MiB, 65536);
      vm.model("vda", 0, MiB, 65536);
      const again = await vm.take(await open(), online);
      expect(levels(again.source)).toEqual({ vda: "incremental" });
      await vm.domain.start();
      await vm.write("vda", 4, 3 * MiB, 65536);
      const last = await vm.take(await open(), online);
      expect(levels(last.source)).toEqual({ vda: "incremental" });
      expect(await vm.checkpoints()).toHaveLength(1);
      expect(await vm.leftovers()).toEqual([]);
    },
  );

  test.skipIf(skipped)("NVRAM and firmware are kept with the point", async () => {
    const vm = new Machine(lab);
    await vm.disk("vda", MiB);
    const nvram = join(lab.dir, `${vm.name}.fd`);
    const firmware = readdirSync("/usr/share").includes("OVMF");
    if (!firmware) return console.log("skipped: no OVMF on this machine");
    await vm.start({ nvram });
    const point = await vm.backup();
    const capture = point.source.captures.find(({ name }) => name === "nvram");
    expect(capture === undefined ? null : Buffer.from(capture.bytes).equals(readFileSync(nvram))).toBe(true);
    expect(point.source.captures.map(({ name }) => name)).toContain("loader");
  });
});
