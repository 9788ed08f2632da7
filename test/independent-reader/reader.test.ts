import { createHash, randomBytes, randomInt } from "node:crypto";
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { Codec, formatKeyFile, readCapture, type Repository } from "../../src/repository/index.ts";
import { skipWithout, tempDir } from "../lab/index.ts";
import { KEY, newRepository, restore, take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { IndependentReader } from "./reader.ts";

const MiB = 1024 * 1024;
const GRANULE = 65_536;
const golden = join(import.meta.dirname, "../repository/golden");
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function keyFile(key: Buffer | null): string | null {
  if (key === null) return null;
  const path = join(tempDir("key"), "key");
  writeFileSync(path, formatKeyFile(key), { mode: 0o600 });
  return path;
}

interface Expected {
  readonly id: string;
  readonly disk: string;
  readonly nvram: string;
}

function expectedOf(name: string): readonly Expected[] {
  return JSON.parse(readFileSync(join(golden, `${name}.json`), "utf8")) as readonly Expected[];
}

function copyOf(name: string): string {
  const copy = join(tempDir("golden"), name);
  cpSync(join(golden, name), copy, { recursive: true });
  return copy;
}

function filesOf(directory: string): string[] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Everything the reader gives, and how often it refused; fails on wrong bytes. */
async function readAll(reader: IndependentReader, expected: readonly Expected[]): Promise<{ readonly refusals: number }> {
  const answers = await Promise.allSettled([
    reader.check(),
    ...expected.flatMap(({ id, disk, nvram }) => [
      reader.disk(id, "vda").then((bytes) => expect(sha256(bytes), `${id} vda`).toBe(disk)),
      reader.capture(id, "nvram").then((bytes) => expect(sha256(bytes), `${id} nvram`).toBe(nvram)),
    ]),
  ]);
  const thrown = answers.flatMap((answer) => (answer.status === "rejected" ? [answer.reason as Error] : []));
  for (const error of thrown) expect(error).toMatchObject({ name: "LabError", message: expect.stringContaining("reader:") as string });
  return { refusals: thrown.length };
}

describe.skipIf(skipWithout("reader"))("a reader written from FORMAT.md alone", () => {
  describe.each([
    ["v1-encrypted", KEY],
    ["v1-plain", null],
  ])("%s", (name, key) => {
    const expected = expectedOf(name);

    test("restores bit for bit, and all there is checks", async () => {
      const reader = new IndependentReader(join(golden, name), keyFile(key));
      const points = await reader.points();
      expect(points.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
      expect(points.every(({ vm }) => vm === "vm")).toBe(true);
      expect(await readAll(reader, expected)).toEqual({ refusals: 0 });
      expect((await reader.check()).packs).toBe(6);
    });

    test("one flipped bit, wherever it is, is an error and never other bytes", { timeout: 600_000 }, async () => {
      const copy = copyOf(name);
      const reader = new IndependentReader(copy, keyFile(key));
      for (const path of filesOf(copy).filter((file) => !file.includes("/heads/"))) {
        const bytes = readFileSync(path);
        for (const at of [randomInt(2) * (bytes.length - 1), randomInt(bytes.length)]) {
          const bit = 1 << randomInt(8);
          const flipped = Buffer.from(bytes);
          flipped[at] = (flipped[at] ?? 0) ^ bit;
          writeFileSync(path, flipped);
          const { refusals } = await readAll(reader, expected);
          // White space is all that may change in the config.
          const harmless = path.endsWith("config") && at === bytes.length - 1;
          if (!harmless) expect(refusals, `${path}: ${at}, bit ${bit}`).toBeGreaterThan(0);
        }
        writeFileSync(path, bytes);
      }
      expect(await readAll(reader, expected)).toEqual({ refusals: 0 });
    });

    test("objects that are cut, missing, or in each other's place are refused", { timeout: 600_000 }, async () => {
      const original = copyOf(name);
      const harms = [(file: string) => rmSync(file), (file: string) => truncateSync(file, Math.floor(readFileSync(file).length / 2))];
      for (const [i, path] of filesOf(original).entries()) {
        if (path.includes("/heads/")) continue;
        const copy = copyOf(name);
        harms[i % 2]?.(path.replace(original, copy));
        const { refusals } = await readAll(new IndependentReader(copy, keyFile(key)), expected);
        expect(refusals, `${path}, harm ${i % 2}`).toBeGreaterThan(0);
      }
      for (const kind of ["points", "packs"]) {
        const copy = copyOf(name);
        const [one = "", other = ""] = filesOf(join(copy, kind));
        renameSync(one, `${one}.aside`);
        renameSync(other, one);
        renameSync(`${one}.aside`, other);
        expect((await readAll(new IndependentReader(copy, keyFile(key)), expected)).refusals, kind).toBeGreaterThan(1);
      }
    });
  });

  test("a wrong key, a mistyped one, none, and one for a plain repository are told apart", async () => {
    const [encrypted, plain] = [join(golden, "v1-encrypted"), join(golden, "v1-plain")];
    await expect(new IndependentReader(encrypted, keyFile(Buffer.alloc(32, 8))).points()).rejects.toThrow("key of another repository");
    await expect(new IndependentReader(encrypted, null).points()).rejects.toThrow("give its key file");
    await expect(new IndependentReader(plain, keyFile(KEY)).points()).rejects.toThrow("not encrypted, and a key was given");
    const mistyped = keyFile(KEY) ?? "";
    writeFileSync(mistyped, readFileSync(mistyped, "utf8").replace("0707", "0708"));
    await expect(new IndependentReader(encrypted, mistyped).points()).rejects.toThrow("mistyped");
  });

  test.each([
    ["version", '"version": 1', '"version": 2'],
    ["features", '"features": []', '"features": ["lasers"]'],
  ])("a config of another %s is refused before anything else is read", async (_name, from, to) => {
    const copy = copyOf("v1-plain");
    const config = readFileSync(join(copy, "config"), "utf8");
    expect(config).toContain(from);
    writeFileSync(join(copy, "config"), config.replace(from, to));
    await expect(new IndependentReader(copy, null).points()).rejects.toThrow("this reader knows version 1 without features");
  });

  test.each([
    ["encrypted", true],
    ["plain", false],
  ])("restores what the writer of today wrote at random, %s, as our own restore does", { timeout: 600_000 }, async (_name, encrypted) => {
    const directory = join(tempDir("fresh"), "repository");
    const key = encrypted ? randomBytes(32) : null;
    const store = new FsObjectStore(directory);
    onTestFinished(async () => await store.close());
    const repository = await newRepository(store, key);
    const written = await writeAtRandom(repository);
    const reader = new IndependentReader(directory, keyFile(key));
    expect((await reader.points()).map(({ id }) => id).toSorted()).toEqual(written.map(({ id }) => id).toSorted());
    for (const { id, disks, captures } of written) {
      const point = await repository.catalog.point(id);
      for (const [name, bytes] of disks) {
        const restored = await reader.disk(id, name);
        expect(restored.equals(bytes), `${id} ${name} as written`).toBe(true);
        expect(restored.equals(await restore(repository, point, name)), `${id} ${name} as restored by ours`).toBe(true);
      }
      for (const capture of point.captures) {
        const read = await reader.capture(id, capture.name);
        expect(read.equals(captures[capture.name] ?? Buffer.alloc(0)), `${id} ${capture.name}`).toBe(true);
        expect(read.equals(await readCapture(repository, capture))).toBe(true);
      }
    }
    expect((await reader.check()).frames).toBeGreaterThan(100);
    const [first] = written;
    await repository.catalog.forget(first?.id ?? "");
    expect((await reader.points()).map(({ id }) => id)).not.toContain(first?.id);
    expect((await reader.disk(first?.id ?? "", "vda")).equals(first?.disks.get("vda") ?? Buffer.alloc(0))).toBe(true);
  });
});

interface Written {
  readonly id: string;
  readonly disks: ReadonlyMap<string, Buffer>;
  readonly captures: Readonly<Record<string, Buffer>>;
}

/** Two machines with disks of odd sizes, some points of each with other codecs, captures of several pieces. */
async function writeAtRandom(repository: Repository): Promise<Written[]> {
  const written: Written[] = [];
  const machines = { "vm one": [70 * MiB - 512, 512], "vm \u{1f98a}": [2 * MiB, 2 * MiB + 4096, 5 * MiB] };
  for (const [vm, sizes] of Object.entries(machines)) {
    const disks = sizes.map((size, i) => new MemoryDisk(`vd${"abc"[i]}`, size));
    for (const codec of [Codec.lz4, Codec.zstd, Codec.none]) {
      for (const disk of disks) scribble(disk);
      const captures = { nvram: randomBytes(700), "domain.xml": Buffer.from("<disk/>".repeat(randomInt(400_000))), empty: Buffer.alloc(0) };
      const { id } = await take(repository, disks, { vm, codec, captures });
      written.push({ id, disks: new Map(disks.map((disk) => [disk.name, Buffer.from(disk.bytes)])), captures });
      for (const disk of disks) disk.checkpoint();
    }
  }
  return written;
}

function scribble(disk: MemoryDisk): void {
  for (let i = 0; i < 12; i++) {
    const offset = randomInt(disk.size);
    const length = Math.min(randomInt(3 * GRANULE) + 1, disk.size - offset);
    disk.write(offset, [Buffer.alloc(length), randomBytes(length), Buffer.alloc(length, "text ")][randomInt(3)] ?? Buffer.alloc(0));
  }
}
