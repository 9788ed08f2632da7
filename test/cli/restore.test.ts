import { randomBytes } from "node:crypto";
import { existsSync, linkSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { formatKeyFile, type PointRecord } from "../../src/repository/index.ts";
import { tempDir } from "../lab/index.ts";
import { KEY, newRepository, take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { type CliResult, thinstream } from "../support/thinstream.ts";

const PATIENCE = { timeout: 120_000 };
const SIZE = 16 * 65_536;

interface Made {
  readonly dir: string;
  readonly points: readonly PointRecord[];
  /** what the disk was at each point */
  readonly contents: readonly Buffer[];
  readonly restore: (...args: readonly string[]) => Promise<CliResult>;
}

/** A repository in a directory with points of one machine, which has the same disk under each of the names. */
async function make(points: number, names: readonly string[] = ["vda"]): Promise<Made> {
  const dir = tempDir("restore");
  writeFileSync(join(dir, "key"), formatKeyFile(KEY), { mode: 0o600 });
  const store = new FsObjectStore(join(dir, "repo"));
  const repository = await newRepository(store);
  const made: PointRecord[] = [];
  const contents: Buffer[] = [];
  for (let i = 0; i < points; i++) {
    contents.push(randomBytes(SIZE));
    const disks = names.map((name) => new MemoryDisk(name, SIZE));
    for (const disk of disks) disk.write(0, contents[i] as Buffer);
    made.push(await take(repository, disks));
  }
  await store.close();
  const flags = ["--repo", `file://${dir}/repo`, "--key-file", "key"];
  return { dir, points: made, contents, restore: async (...args) => await thinstream(["restore", ...flags, ...args], { cwd: dir }) };
}

test("two disks do not go into one file, by whatever names, and nothing of it is touched", PATIENCE, async () => {
  const { dir, restore } = await make(1, ["vda", "vdb"]);
  const before = randomBytes(SIZE + 4096);
  writeFileSync(join(dir, "one"), before);
  symlinkSync("one", join(dir, "soft"));
  linkSync(join(dir, "one"), join(dir, "hard"));
  for (const other of ["one", "./one", "soft", "hard"]) {
    const { code, stderr } = await restore("--point", "latest", "--target", "vda=one", "--target", `vdb=${other}`);
    expect([code, stderr]).toEqual([1, expect.stringContaining(`${other} is the target of the disk vda too`)]);
  }
  expect(readFileSync(join(dir, "one")).equals(before)).toBe(true);
});

test("a file that is larger than the disk keeps its size, and nothing of what it was", PATIENCE, async () => {
  const { dir, contents, restore } = await make(1);
  writeFileSync(join(dir, "one"), randomBytes(3 * SIZE));
  expect(await restore("--point", "latest", "--target", "vda=one")).toMatchObject({ code: 0 });
  const restored = readFileSync(join(dir, "one"));
  expect(restored.equals(Buffer.concat([contents[0] as Buffer, Buffer.alloc(2 * SIZE)]))).toBe(true);
});

test("the latest is no older point because the latest is damaged", PATIENCE, async () => {
  const { dir, points, contents, restore } = await make(3);
  const at = ({ id, seq }: PointRecord): string => join(dir, "repo", "points", id.slice(0, 12), String(seq).padStart(10, "0"));
  const [oldest, middle, newest] = points as [PointRecord, PointRecord, PointRecord];
  writeFileSync(at(oldest), "rubbish");
  expect(await restore("--point", "latest", "--output", "fine"), "older ones do not matter").toMatchObject({ code: 0 });
  writeFileSync(at(newest), "rubbish");
  for (const vm of [[], ["--vm", "vm"]]) {
    const { code, stderr } = await restore("--point", "latest", ...vm, "--output", "out");
    expect([code, stderr]).toEqual([1, expect.stringContaining(`may be the restore point ${newest.id}, which cannot be read`)]);
    expect(stderr).toContain(`--point ${middle.id}`);
  }
  expect(existsSync(join(dir, "out"))).toBe(false);
  expect(await restore("--point", middle.id, "--output", "out")).toMatchObject({ code: 0 });
  expect(readFileSync(join(dir, "out/vda.raw")).equals(contents[1] as Buffer)).toBe(true);
  writeFileSync(at(middle), "rubbish");
  expect(await restore("--point", "latest", "--output", "none")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("cannot be read") as string,
  });
});

test("a disk's name does not lead out of the directory", PATIENCE, async () => {
  const { dir, restore } = await make(1, ["../vda"]);
  const { code, stderr } = await restore("--point", "latest", "--output", "out");
  expect([code, stderr]).toEqual([1, expect.stringContaining("has a name that no file can have")]);
  expect([existsSync(join(dir, "vda.raw")), existsSync(join(dir, "vda.raw.partial"))]).toEqual([false, false]);
});
