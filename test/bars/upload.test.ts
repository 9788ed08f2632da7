import { randomBytes } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NbdPool, QemuNbd } from "../../src/nbd/index.ts";
import { formatBytes } from "../../src/lib/bytes.ts";
import { createImage, defineDomain, type LabDomain, type LibvirtLab, skipWithout, startLibvirt, tempDir } from "../lab/index.ts";
import { type BackupJson, thinstreamJson } from "../support/thinstream.ts";

const GiB = 2 ** 30;
const GRANULE = 65_536;
/** random dirty granules on the large disk, and on each of the two beside it */
const DIRTY = 10_000;
const BESIDE = 500;
const BAR = 1.05;
const skipped = skipWithout("host");

describe.skipIf(skipped)("upload bar: random dirty granules on a 100 GiB thin disk", () => {
  const granules = new Map<string, readonly number[]>();
  let lab: LibvirtLab;
  let domain: LabDomain;
  let dir: string;
  let flags: string[];
  let seed: Buffer;
  let servers = 0;

  beforeAll(async () => {
    dir = tempDir("upload");
    flags = ["--repo", `file://${join(dir, "repository")}`, "--key-file", join(dir, "key")];
    lab = await startLibvirt("host");
    const disks = [];
    for (const [name, size] of [
      ["vda", 100 * GiB],
      ["vdb", 8 * GiB],
      ["vdc", 8 * GiB],
    ] as const) {
      const path = await createImage(join(lab.dir, `${name}.qcow2`), { size });
      disks.push({ name, path, format: "qcow2" as const });
      granules.set(name, distinct(name === "vda" ? DIRTY : BESIDE, size / GRANULE));
    }
    domain = await defineDomain(lab, { name: "upload", disks });
    await thinstreamJson(["init", ...flags]);
    await domain.start();
    seed = randomBytes(GRANULE);
  });
  afterAll(async () => await lab?.stop());

  test("10,000 new granules: map and data within 5 % of what is dirty; the same data again: nothing but the map at most", async () => {
    await backup("the empty disks");
    await rewrite(1);
    const changed = await backup("10,000 random granules written, 500 on each of two disks beside");
    for (const disk of changed.disks) {
      const wanted = granules.get(disk.name)?.length ?? 0;
      expect(disk.level).toBe("incremental");
      expect(disk.dirtyBytes).toBe(wanted * GRANULE);
      expect(disk.newBytes).toBe(wanted * GRANULE);
      if (wanted === DIRTY) expect((disk.newBytes + disk.mapBytes) / disk.dirtyBytes).toBeLessThanOrEqual(BAR);
    }

    const before = packs();
    await rewrite(1);
    const same = await backup("the same data written again");
    for (const disk of same.disks) {
      expect(disk.dirtyBytes).toBe((granules.get(disk.name)?.length ?? 0) * GRANULE);
      expect(disk).toMatchObject({ level: "incremental", newBytes: 0, mapBytes: 0, uploadedBytes: 0 });
    }
    // What the point keeps beside its disks (the domain's XML and the like) is all there is.
    const added = [...packs()].filter(([name]) => !before.has(name));
    console.log(`packs written for identical data: ${added.map(([, bytes]) => formatBytes(bytes)).join(", ") || "none"}`);
    expect(added.reduce((sum, [, bytes]) => sum + bytes, 0)).toBeLessThan(GRANULE);

    await rewrite(2);
    const again = await backup("other data in the same granules");
    const large = again.disks.find(({ name }) => name === "vda");
    expect(large?.newBytes).toBe(DIRTY * GRANULE);
    expect(((large?.newBytes ?? 0) + (large?.mapBytes ?? 0)) / (large?.dirtyBytes ?? 1)).toBeLessThanOrEqual(BAR);
  }, 900_000);

  /** Writes every chosen granule, with the machine off: bitmaps are kept current by qemu-nbd as by QEMU, and a hundred times faster than through its monitor. */
  async function rewrite(generation: number): Promise<void> {
    await domain.destroy();
    for (const { name, path } of domain.spec.disks) {
      const { signal } = new AbortController();
      const server = await QemuNbd.start({
        image: path,
        socket: join(lab.dir, `${name}-${generation}-${servers++}.nbd`),
        args: ["--format=qcow2"],
        patience: 60_000,
        signal,
      });
      const pool = await NbdPool.open({ socket: server.socket }, { connections: 4, signal });
      const chosen = granules.get(name) ?? [];
      for (let at = 0; at < chosen.length; at += 64) {
        const writes = chosen
          .slice(at, at + 64)
          .map((granule) => ({ offset: granule * GRANULE, from: content(name, granule, generation) }));
        await pool.write(writes);
      }
      await pool.flush();
      await pool.close();
      await server.stop();
    }
    await domain.start();
  }

  /** Random bytes of which no two granules are equal. */
  function content(disk: string, granule: number, generation: number): Buffer {
    const bytes = Buffer.from(seed);
    bytes.write(`${disk} ${granule} ${generation}`, 0);
    return bytes;
  }

  async function backup(what: string): Promise<BackupJson> {
    const began = performance.now();
    const json = await thinstreamJson<BackupJson>([
      "backup",
      ...flags,
      "--connect",
      lab.uri,
      "--domain",
      "upload",
      "--compression",
      "none",
    ]);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const lines = json.disks.map(({ name, level, dirtyBytes, newBytes, mapBytes }) => {
      const ratio = dirtyBytes === 0 ? "" : `, ${((newBytes + mapBytes) / dirtyBytes).toFixed(4)} of dirty`;
      return `  ${name}: ${level}, dirty ${formatBytes(dirtyBytes)}, new ${formatBytes(newBytes)}, map ${formatBytes(mapBytes)}${ratio}`;
    });
    console.log([`${what} (${seconds} s)`, ...lines].join("\n"));
    return json;
  }

  function packs(): Map<string, number> {
    const root = join(dir, "repository", "packs");
    const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    return new Map(files.map((entry) => [entry.name, statSync(join(entry.parentPath, entry.name)).size]));
  }
});

/** `count` different numbers below `below`. */
function distinct(count: number, below: number): number[] {
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(randomBytes(4).readUInt32LE() % below);
  return [...chosen];
}
