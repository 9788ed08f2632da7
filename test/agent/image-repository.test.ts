import { execFileSync } from "node:child_process";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type BackupResult, openImage, runBackup, type SourceDisk } from "../../src/agent/index.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { Codec, type PointDisk, type PointRecord, Repository } from "../../src/repository/index.ts";
import { type ImageFormat, runRestore } from "../../src/restore/index.ts";
import { compareRaw, createImage, qemuIo, rawCopy, skipWithout, tempDir } from "../lab/index.ts";
import { ours, servers } from "./images.ts";

const { signal } = new AbortController();
const size = 64 * 2 ** 20;

/** Images in a directory, and the repository that their points go to. */
class World {
  readonly dir: string = tempDir("world");
  readonly paths: string[] = [];
  readonly repository: Repository;

  constructor(repository: Repository) {
    this.repository = repository;
  }

  static async make(): Promise<World> {
    const store = new FsObjectStore(join(tempDir("repo"), "store"));
    onTestFinished(() => store.close());
    return new World(await Repository.init({ store, key: Buffer.alloc(32, 3) }));
  }

  /**
   * `checkpoint`: one that was made of vda at this instant, as libvirt's engine would report it. `onListed` is awaited when all extents of vda were
   * listed, and the last of it is not read yet.
   */
  async backup(checkpoint: string | null = null, onListed = async (): Promise<void> => undefined): Promise<PointRecord> {
    const images = this.paths.map((path, index) => ({ name: `vd${String.fromCodePoint(97 + index)}`, path }));
    const run = { key: this.dir, name: "vm", level: "auto", runtimeDir: this.dir, signal, log: silentLogger } as const;
    const result: BackupResult = await runBackup({
      repository: this.repository,
      vm: { name: "vm", uuid: null },
      open: async ({ bases }) => {
        const source = await openImage({ ...run, images, bases });
        return { ...source, disks: source.disks.map((disk) => (disk.name === "vda" ? reporting(disk, checkpoint, onListed) : disk)) };
      },
      since: null,
      codec: Codec.lz4,
      tool: { name: "test", version: "0" },
      threshold: null,
      estimate: false,
      signal,
      log: silentLogger,
    });
    if (result.kind !== "committed") throw new Error(`the backup ended as ${result.kind}`);
    const left = [...result.warnings, ...servers(this.dir), ...ours(this.dir)];
    if (left.length > 0) throw new Error(`left behind, or warned of: ${left.join("; ")}`);
    return result.point;
  }

  copies(): Promise<string[]> {
    return Promise.all(this.paths.map((path) => rawCopy(path)));
  }

  /** The first difference between what a point restores to and what it should; undefined when there is none. */
  async difference(point: PointRecord, wanted: readonly string[], format: ImageFormat): Promise<string | undefined> {
    const { repository } = this;
    const output = tempDir("out");
    const restored = await runRestore({ repository, point, disks: [], output, format, targets: new Map(), force: false, signal });
    if (restored.length !== wanted.length) return `${restored.length} disks`;
    for (const [index, { path }] of restored.entries()) {
      const found = await compareRaw(format === "raw" ? path : await rawCopy(path), wanted[index] ?? "");
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function reporting(disk: SourceDisk, checkpoint: string | null, onListed: () => Promise<void>): SourceDisk {
  const { name, size: bytes, level, reason, base, imageInfo } = disk;
  const facts = { name, size: bytes, level, reason, base, checkpoint, imageInfo };
  const extents: SourceDisk["extents"] = async function* (stop, scope) {
    yield* disk.extents(stop, scope);
    await onListed();
  };
  return { ...facts, extents, read: (requests, stop) => disk.read(requests, stop) };
}

describe.skipIf(skipWithout("host"))("images in a repository", () => {
  test("one that is written to while the last of it is read becomes no point", async () => {
    const world = await World.make();
    const path = await createImage(join(world.dir, "raw"), { size, format: "raw" });
    world.paths.push(path);
    await qemuIo(path, "write -P 1 0 64M");
    await world.backup();
    const write = async (): Promise<void> => {
      const handle = await open(path, "r+");
      await handle.write(Buffer.alloc(512, 7), 0, 512, size - 512);
      await handle.close();
    };
    const message = `the image ${path} was written to while it was read`;
    await expect(world.backup(null, write)).rejects.toMatchObject({ code: "image-changed", message });
    expect((await world.repository.catalog.list()).points).toHaveLength(1);
    expect([servers(world.dir), ours(world.dir)]).toEqual([[], []]);
  });

  test("D13 A15: full, unchanged, changed and through a bitmap: every point restores to what the images were, raw and qcow2", async () => {
    const world = await World.make();
    const first = await createImage(join(world.dir, "first"), { size });
    const second = await createImage(join(world.dir, "second"), { size, format: "raw" });
    world.paths.push(first, second);
    await qemuIo(first, "write -P 1 0 20M", "write -P 2 40M 100k");
    await qemuIo(second, "write -P 3 1M 10M");
    const fullContent = await world.copies();
    const full = await world.backup();
    expect(full.disks.map(({ level, stats }) => [level, stats.newBytes > 0])).toEqual([["full", true], ["full", true]]); // prettier-ignore
    expect([full.level, full.consistency]).toEqual(["full", "offline"]);

    execFileSync("qemu-img", ["bitmap", "--add", first, "ts-00000000-1"]);
    const same = await world.backup("ts-00000000-1");
    expect(same.disks.map(({ stats }) => [stats.newBytes, stats.readBytes > 0])).toEqual([[0, true], [0, true]]); // prettier-ignore

    await qemuIo(first, "write -P 4 5M 64k", "write -z 0 1M", "write -P 2 40M 64k");
    await qemuIo(second, "write -P 5 2M 64k");
    const nextContent = await world.copies();
    const next = await world.backup();
    const [tracked, compared] = next.disks as [PointDisk, PointDisk];
    expect([tracked.level, tracked.base, tracked.checkpoint, compared.level]).toEqual(["incremental", same.id, null, "full"]);
    expect(tracked.stats).toMatchObject({ dirtyBytes: 2 ** 20 + 2 * 65536, zeroBytes: 2 ** 20, readBytes: 131072, newBytes: 65536 });
    expect(compared.stats.newBytes).toBe(65536);

    await qemuIo(first, "write -P 6 60M 64k");
    const lastContent = await world.copies();
    const last = await world.backup();
    // Points of a machine that is off make no checkpoint, so the next one stands on the same point again.
    expect(last.disks[0]).toMatchObject({ level: "incremental", base: same.id, stats: { newBytes: 65536 } });
    expect(await world.difference(full, fullContent, "raw")).toBeUndefined();
    expect(await world.difference(same, fullContent, "qcow2")).toBeUndefined();
    expect(await world.difference(next, nextContent, "raw")).toBeUndefined();
    expect(await world.difference(last, lastContent, "raw")).toBeUndefined();
    expect(await world.difference(last, lastContent, "qcow2")).toBeUndefined();
  });
});
