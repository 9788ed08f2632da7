import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventLoopLimit } from "../support/event-loop.ts";
import {
  backupXml,
  checkpointXml,
  LibvirtConnection,
  LibvirtError,
  parseBackup,
  parseCheckpointSizes,
  parseDomain,
  versionText,
} from "../../src/libvirt/index.ts";
import {
  createImage,
  defineDomain,
  type Flavour,
  type LabDomain,
  type LibvirtLab,
  qemuIo,
  skipWithout,
  startLibvirt,
  tempDir,
  writeAsGuest,
} from "../lab/index.ts";

describe.each<Flavour>(["host", "trixie"])("libvirt of %s", (flavour) => {
  const skipped = skipWithout(flavour);
  let lab: LibvirtLab;
  let vm: LabDomain;
  let connection: LibvirtConnection;

  beforeAll(async () => {
    if (skipped) return;
    lab = await startLibvirt(flavour);
    const image = await createImage(join(lab.dir, "a.qcow2"), { size: "64M" });
    await qemuIo(image, "write -P 0xaa 0 1M");
    vm = await defineDomain(lab, { name: 'it\'s <a> "vm" & more', disks: [{ name: "vda", path: image, format: "qcow2" }] });
    await vm.start();
    connection = await LibvirtConnection.connect(lab.uri);
  });

  afterAll(async () => {
    await connection?.close();
    await lab?.stop();
  });

  test.skipIf(skipped)("versions and the kind of hypervisor are the daemon's", async () => {
    expect(await connection.hypervisorType()).toBe("QEMU");
    expect(lab.versions.libvirt).toContain(versionText(await connection.libvirtVersion()));
    expect(lab.versions.qemu).toContain(versionText(await connection.hypervisorVersion()));
  });

  test.skipIf(skipped)("errors carry libvirt's code and message, and the right ones under concurrency", async () => {
    await expect(connection.lookupByName("nobody")).rejects.toMatchObject({
      code: "no-domain",
      libvirtCode: 42,
      message: expect.stringContaining("nobody"),
    });
    const wrong = Array.from({ length: 20 }, (_unused, index) => connection.lookupByName(`x${index}`).catch((error: unknown) => error));
    const errors = (await Promise.all(wrong)) as LibvirtError[];
    expect(errors.map((error) => error.libvirtMessage.includes(`'x${errors.indexOf(error)}'`))).toEqual(Array(20).fill(true));
    await expect(LibvirtConnection.connect("qemu:///system?socket=/nonexistent/sock")).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("/nonexistent/sock"),
    });
    const opens = await Promise.allSettled([
      LibvirtConnection.connect("nonsense://"),
      connection.lookupByName("other"),
      LibvirtConnection.connect(`qemu:///system?socket=/no/2`),
    ]);
    const texts = opens.map((result) => (result.status === "rejected" ? (result.reason as Error).message : "fulfilled"));
    expect(texts[0]).toMatch(/nonsense/);
    expect(texts[1]).toMatch(/'other'/);
    expect(texts[2]).toMatch(/\/no\/2/);
  });

  test.skipIf(skipped)("a backup job with a checkpoint, its sizes, and its end", async () => {
    const domain = await connection.lookupByName(vm.name);
    expect(await domain.isActive()).toBe(true);
    expect(await domain.state()).toBe("paused");
    const xml = await domain.xml();
    const description = parseDomain(xml);
    expect(description).toMatchObject({
      name: vm.name,
      disks: [{ target: "vda", format: "qcow2", type: "file", device: "disk", readOnly: false }],
    });
    await expect(domain.backupXml()).rejects.toMatchObject({ code: "no-backup" });
    const socket = join(tempDir("job"), "n.sock");
    const job = backupXml(socket, [{ name: "vda", scratch: `${socket}.scratch`, since: null }]);
    await domain.backupBegin(job, checkpointXml("c1", ["vda"]));
    expect(parseBackup(await domain.backupXml())).toMatchObject({ socket, disks: [{ name: "vda" }] });
    expect((await domain.jobStats()).isBackup).toBe(true);

    await domain.abortJob();
    expect(await domain.checkpointNames()).toEqual(["c1"]);
    await writeAsGuest(vm, "vda", "write -P 1 1M 128k");
    const checkpoint = await domain.checkpoint("c1");
    expect(parseCheckpointSizes(await checkpoint.xml({ size: true })).get("vda")).toBe(131072);
    await checkpoint.delete();
    await expect(checkpoint.xml()).rejects.toMatchObject({ code: "no-checkpoint" });
    await checkpoint.close();
    await checkpoint.close();
    await expect(checkpoint.xml()).rejects.toMatchObject({ code: "closed" });
    expect((await domain.instance()).id).toBeGreaterThan(0);
    await domain.close();
  });

  test.skipIf(skipped)("freezing without an agent says so", async () => {
    const domain = await connection.lookupByName(vm.name);
    await expect(domain.fsFreeze(["/", "/home"])).rejects.toBeInstanceOf(LibvirtError);
    await domain.close();
  });

  test.skipIf(skipped)("nothing blocks the event loop for 10 ms", async () => {
    const domain = await connection.lookupByName(vm.name);
    await domain.xml();
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    for (let round = 0; round < 50; round += 1) await domain.xml();
    delay.disable();
    console.log(
      `event loop delay over 50 calls: p99 ${(delay.percentile(99) / 1e6).toFixed(1)} ms, max ${(delay.max / 1e6).toFixed(1)} ms`,
    );
    expect(delay.percentile(99) / 1e6).toBeLessThan(eventLoopLimit());
    await domain.close();
  });

  test.skipIf(skipped)("define, start, stop, undefine", async () => {
    const xml = `<domain type='qemu'><name>other</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>`;
    const domain = await connection.define(xml);
    expect(await domain.isPersistent()).toBe(true);
    await domain.start({ paused: true });
    expect(await domain.state()).toBe("paused");
    await domain.destroy();
    expect(await domain.isActive()).toBe(false);
    await domain.undefine();
    await expect(connection.lookupByName("other")).rejects.toMatchObject({ code: "no-domain" });
    await expect(connection.define("<domain>")).rejects.toMatchObject({ code: "invalid-xml" });
  });

  test.skipIf(skipped)("use after close throws, closing twice is fine, aborted waits end", async () => {
    const other = await LibvirtConnection.connect(lab.uri);
    const domain = await other.lookupByName(vm.name);
    await expect(domain.xml({ signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
    await Promise.all([other.close(), other.close()]);
    await expect(domain.xml()).rejects.toMatchObject({ code: "closed" });
    await expect(other.lookupByName(vm.name)).rejects.toMatchObject({ code: "closed" });
    await domain.close();
    await expect(LibvirtConnection.connect(lab.uri, { signal: AbortSignal.abort(new Error("no")) })).rejects.toThrow("no");
  });

  test.skipIf(skipped)("a daemon that goes away is `unreachable`", async () => {
    const other = await LibvirtConnection.connect(lab.uri);
    const domain = await other.lookupByName(vm.name);
    await lab.restartDaemon();
    await expect(domain.xml()).rejects.toMatchObject({ code: "unreachable" });
    await other.close();
    connection = await LibvirtConnection.connect(lab.uri);
    const again = await connection.lookupByName(vm.name);
    expect(await again.isActive()).toBe(true);
  });
});
