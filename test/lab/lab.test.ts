import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Flavour, LabDomain, LibvirtLab } from "./index.ts";
import {
  LabError,
  compareRaw,
  createImage,
  defineDomain,
  qemuIo,
  rawCopy,
  run,
  skipWithout,
  snapshot,
  startLibvirt,
  tempDir,
  writeAsGuest,
} from "./index.ts";

const MIB = 1 << 20;

interface MapEntry {
  readonly offset: number;
  readonly length: number;
  readonly description: string;
}

/** Begins a pull backup with a checkpoint, both by virsh; the ranges that the NBD export calls dirty, as `offset+length`. */
async function backup(domain: LabDomain, dir: string, name: string, since?: string): Promise<string[]> {
  const disks = domain.spec.disks.map(
    (disk) => `<disk name='${disk.name}' type='file'><driver type='qcow2'/><scratch file='${dir}/${name}-${disk.name}'/></disk>`,
  );
  const base = since === undefined ? "" : `<incremental>${since}</incremental>`;
  const job = `<domainbackup mode='pull'>${base}<server transport='unix' socket='${dir}/nbd'/><disks>${disks.join("")}</disks></domainbackup>`;
  writeFileSync(join(dir, "job.xml"), job);
  writeFileSync(join(dir, "checkpoint.xml"), `<domaincheckpoint><name>${name}</name></domaincheckpoint>`);
  await domain.lab.virsh("backup-begin", domain.name, join(dir, "job.xml"), join(dir, "checkpoint.xml"));
  try {
    if (since === undefined) return [];
    const all: string[] = [];
    for (const disk of domain.spec.disks) {
      const url = `nbd+unix:///${disk.name}?socket=${dir}/nbd`;
      const map = JSON.parse(await run("nbdinfo", ["--json", `--map=qemu:dirty-bitmap:backup-${disk.name}`, url])) as MapEntry[];
      all.push(...map.filter((e) => e.description === "dirty").map((e) => `${disk.name} ${e.offset}+${e.length}`));
    }
    return all;
  } finally {
    await domain.lab.virsh("domjobabort", domain.name);
  }
}

describe.each<Flavour>(["host", "trixie"])("libvirt lab %s", (flavour) => {
  describe.skipIf(skipWithout(flavour))("without a guest", () => {
    let lab: LibvirtLab;
    let dir: string;
    beforeAll(async () => {
      lab = await startLibvirt(flavour);
      dir = tempDir("t");
    });
    afterAll(() => lab.stop());

    it("runs the versions the flavour stands for", () => {
      const [libvirt, qemu] = [parseFloat(lab.versions.libvirt), parseFloat(lab.versions.qemu)];
      if (flavour === "trixie") expect([libvirt, qemu]).toEqual([11.3, 10]);
      else expect(libvirt).toBeGreaterThanOrEqual(9);
    });

    it("tracks writes of a domain without a system: checkpoint, pull backup, exact dirty ranges, across a restart of libvirtd", async () => {
      const disks = [{ name: "vda", path: await createImage(join(dir, "a.qcow2"), { size: "1G" }), format: "qcow2" as const }];
      if (flavour === "trixie") {
        const dataFile = join(dir, "b.raw");
        const overlay = { name: "sda", path: join(dir, "b.qcow2"), format: "qcow2" as const, dataFile };
        await createImage(overlay.path, { size: "1G", dataFile });
        disks.push(overlay);
      }
      const domain = await defineDomain(lab, { name: "dummy", disks });
      await domain.start();
      await backup(domain, dir, "c1");
      for (const { name } of disks) await writeAsGuest(domain, name, "write -P 7 1M 100k", "write -z -u 4M 64k", "discard 8M 1M");
      await lab.restartDaemon();
      expect(await lab.virsh("domstate", "dummy")).toContain("paused");
      const dirty = await backup(domain, dir, "c2", "c1");
      expect(dirty).toEqual(
        disks.flatMap(({ name }) => [`${name} ${MIB}+131072`, `${name} ${4 * MIB}+65536`, `${name} ${8 * MIB}+${MIB}`]),
      );
      const content = await snapshot(domain, "vda");
      const expected = await createImage(join(dir, "expected.raw"), { size: "1G", format: "raw" });
      expect(await compareRaw(content, expected)).toContain(`mismatch at offset ${MIB}`);
      await qemuIo(expected, "write -P 7 1M 100k");
      expect(await compareRaw(content, expected)).toBeUndefined();
      await domain.destroy();
      await domain.undefine();
      expect(await compareRaw(await rawCopy(disks.at(-1)?.path ?? ""), expected)).toBeUndefined();
    });

    it("reports what QEMU refuses", async () => {
      const path = await createImage(join(dir, "r.qcow2"), { size: "64M" });
      const domain = await defineDomain(lab, { name: "refuse", disks: [{ name: "vda", path, format: "qcow2" }] });
      await domain.start();
      await expect(writeAsGuest(domain, "vda", "write 64M 64k")).rejects.toThrow(LabError);
      await expect(writeAsGuest(domain, "vda", "scribble")).rejects.toThrow("scribble");
      await expect(writeAsGuest(domain, "vdb", "write 0 64k")).rejects.toThrow("no disk vdb");
      await domain.destroy();
    });

    it("lets two labs run side by side, and stop() is a power cut to one of them alone", async () => {
      const other = await startLibvirt(flavour);
      const domains: LabDomain[] = [];
      for (const each of [lab, other]) {
        const path = await createImage(join(dir, `${domains.length}.qcow2`), { size: "64M" });
        const domain = await defineDomain(each, { name: "same", disks: [{ name: "vda", path, format: "qcow2" }] });
        await domain.start();
        domains.push(domain);
      }
      const [kept, cut] = domains.map((domain) => domain.qemuPid());
      expect(existsSync(`/proc/${cut}`)).toBe(true);
      await other.stop();
      await gone(Number(cut));
      expect(existsSync(`/proc/${kept}`)).toBe(true);
      expect(await lab.virsh("domstate", "same")).toContain("paused");
    });

    it("ends with the process that started it, even when that is killed", async () => {
      const script = `import { startLibvirt } from ${JSON.stringify(join(import.meta.dirname, "index.ts"))};
        const lab = await startLibvirt("${flavour}");
        console.log(lab.hostPid(1), lab.dir);
        setInterval(() => undefined, 1000);`;
      // A base of its own: any other lab on this machine would remove what was left, too.
      const env = { ...process.env, THINSTREAM_LAB_DIR: dir };
      const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"], env });
      const [line] = (await once(child.stdout, "data")) as [Buffer];
      const [pid, left] = line.toString().trim().split(" ");
      expect(existsSync(`/proc/${pid}`)).toBe(true);
      child.kill("SIGKILL");
      await gone(Number(pid));
      // What it left is removed by the first temporary directory of the next process.
      expect(existsSync(left ?? "")).toBe(true);
      await run(process.execPath, ["-e", `require(${JSON.stringify(join(import.meta.dirname, "temp-dir.ts"))}).tempDir()`], { env });
      expect(existsSync(left ?? "")).toBe(false);
    });
  });

  describe.skipIf(skipWithout(flavour, "guest"))("with the Linux guest", () => {
    let lab: LibvirtLab;
    beforeAll(async () => {
      lab = await startLibvirt(flavour);
    });
    afterAll(() => lab.stop());

    it("boots, freezes, writes, punches, trims, shuts down, and boots again with its files", async () => {
      const dir = tempDir("g");
      const path = await createImage(join(dir, "g.qcow2"), { size: "1G" });
      const domain = await defineDomain(lab, { name: "guest", guest: true, disks: [{ name: "vda", path, format: "qcow2" }] });
      await domain.start();
      const { guest } = domain;
      const sum = await guest.sh("dd if=/dev/urandom of=/data/file bs=64k count=16 2>/dev/null && sync && sha256sum /data/file");
      await backup(domain, dir, "c1");

      await lab.virsh("domfsfreeze", "guest");
      const status = await lab.virsh("qemu-agent-command", "guest", '{"execute":"guest-fsfreeze-status"}');
      await lab.virsh("domfsthaw", "guest");
      expect(status).toContain("frozen");

      await guest.sh("echo more >/data/more && /sbin/fallocate -p -o 64k -l 64k /data/file && sync && fstrim /data");
      expect((await backup(domain, dir, "c2", "c1")).length).toBeGreaterThan(0);
      expect(await guest.sh("sha256sum /data/file")).not.toBe(sum);
      await expect(guest.sh("exit 3")).rejects.toThrow("exit 3");

      await lab.virsh("shutdown", "--mode", "agent", "guest");
      await until(async () => (await lab.virsh("domstate", "guest")).includes("shut off"));
      await domain.start();
      expect(await domain.guest.sh("cat /data/more")).toBe("more");
      await domain.destroy();
    });
  });
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error("waited a minute in vain");
    await sleep(50);
  }
}

function gone(pid: number): Promise<void> {
  return until(() => !existsSync(`/proc/${pid}`));
}
