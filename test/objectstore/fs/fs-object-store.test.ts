import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FsObjectStore } from "../../../src/objectstore/fs/index.ts";
import { expectCode, pattern } from "../../contract/objectstore.ts";
import { type FsFixture, openFs } from "./fixture.ts";

async function keys(store: FsObjectStore): Promise<string[]> {
  const found: string[] = [];
  for await (const object of store.list("")) found.push(object.key);
  return found;
}

const openDescriptors = async (): Promise<number> => (await readdir("/proc/self/fd")).length;

describe("fs store", () => {
  let fixture: FsFixture;
  let store: FsObjectStore;
  beforeEach(async () => {
    fixture = await openFs();
    store = fixture.store;
  });
  afterEach(() => fixture.dispose());

  it("keeps each object in a file of that name, readable by its owner only", async () => {
    await store.put("packs/ab/cd", Buffer.from("body"));
    const path = join(fixture.directory, "packs/ab/cd");
    expect(await readFile(path, "utf8")).toBe("body");
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(dirname(path))).mode & 0o777).toBe(0o700);
    expect(store.url).toBe(`file://${fixture.directory}`);
  });

  it("makes nothing before the first write", async () => {
    expect(await keys(store)).toEqual([]);
    await expectCode(store.get("a"), "not-found");
    await store.delete("a");
    await expect(stat(fixture.directory)).rejects.toThrow("ENOENT");
  });

  it("leaves nothing beside the objects, after success, refusal and abort", async () => {
    await store.put("a", pattern(1000, 1));
    await store.putIfAbsent("b", pattern(1000, 1));
    await expectCode(store.putIfAbsent("b", pattern(1000, 2)), "already-exists");
    await Promise.allSettled(Array.from({ length: 20 }, () => store.putIfAbsent("race", pattern(100, 1))));
    const controller = new AbortController();
    const aborted = store.put("c", new Uint8Array(64 * 1024 * 1024), { signal: controller.signal });
    setTimeout(() => controller.abort(new Error("enough")), 5);
    await expect(aborted).rejects.toThrow("enough");
    expect(await readdir(join(fixture.directory, "~tmp"))).toEqual([]);
    expect(await keys(store)).toEqual(["a", "b", "race"]);
  });

  it("shows nothing of what a killed writer left, and removes it after a day", async () => {
    const left = join(fixture.directory, "~tmp");
    await mkdir(left, { recursive: true });
    await writeFile(join(left, "old"), "half");
    await writeFile(join(left, "young"), "half");
    await utimes(join(left, "old"), new Date(), new Date(Date.now() - 25 * 3600 * 1000));
    await store.put("a", Buffer.from("x"));
    expect(await keys(store)).toEqual(["a"]);
    expect(await readdir(left)).toEqual(["young"]);
  });

  it("passes over files that are no objects", async () => {
    await store.put("real", Buffer.from("x"));
    await writeFile(join(fixture.directory, "not a key"), "");
    await mkdir(join(fixture.directory, "lost+found"));
    await writeFile(join(fixture.directory, "lost+found", "x"), "");
    await symlink("/etc", join(fixture.directory, "link"));
    expect(await keys(store)).toEqual(["real"]);
  });

  it("writes again below a directory that someone removed", async () => {
    await store.put("d/e/a", Buffer.from("1"));
    await rm(fixture.directory, { recursive: true });
    await store.put("d/e/b", Buffer.from("2"));
    await store.putIfAbsent("d/e/c", Buffer.from("3"));
    expect(await keys(store)).toEqual(["d/e/b", "d/e/c"]);
  });

  it("refuses a key below an object", async () => {
    await store.put("a", Buffer.from("x"));
    await expectCode(store.put("a/b", Buffer.from("x")), "invalid-key");
    await expectCode(store.get("a/b"), "not-found");
    expect(await keys(store)).toEqual(["a"]);
  });

  it("sees within a second and a bit that another process replaced or removed what it holds open", async () => {
    const into = Buffer.alloc(1);
    await store.put("a", Buffer.from("1"));
    await store.put("b", Buffer.from("1"));
    await store.read("a", 0, into);
    await store.read("b", 0, into);
    await fixture.other.put("a", Buffer.from("2"));
    await fixture.other.delete("b");
    await new Promise((resolve) => setTimeout(resolve, 1100));
    await store.read("a", 0, into);
    expect(into.toString()).toBe("2");
    await expectCode(store.read("b", 0, into), "not-found");
  });

  it("holds a bounded number of files open, and none after close", async () => {
    const before = await openDescriptors();
    const names = Array.from({ length: 200 }, (_, i) => `p/${i}`);
    await Promise.all(names.map((key) => store.put(key, Buffer.from(key))));
    for (let round = 0; round < 2; round++) {
      await Promise.all(
        names.map(async (key) => {
          const into = Buffer.alloc(key.length);
          await store.read(key, 0, into);
          expect(into.toString()).toBe(key);
        }),
      );
    }
    expect((await openDescriptors()) - before).toBeLessThanOrEqual(33);
    await Promise.allSettled(names.map((key) => store.read(`none/${key}`, 0, Buffer.alloc(1))));
    const late = store.read("p/1", 0, Buffer.alloc(1));
    await store.close();
    await late;
    expect((await openDescriptors()) - before).toBeLessThanOrEqual(0);
  });
});

/** Puts and creates objects of 3 MB, each of one repeated byte, as fast as it can. */
const restlessWriter = `
  const { FsObjectStore } = await import(process.argv[1]);
  const store = new FsObjectStore(process.argv[2]);
  process.stdout.write("started");
  for (let i = 0; ; i++) {
    await Promise.all([store.put("same", new Uint8Array(3e6).fill(i)), store.putIfAbsent("d" + (i % 5) + "/" + process.pid + "-" + i, new Uint8Array(3e6).fill(i))]);
  }
`;

describe("fs store and writers that are killed", () => {
  it("shows whole objects only, through ten kills", async () => {
    const fixture = await openFs();
    const { directory, store } = fixture;
    const module = join(import.meta.dirname, "../../../src/objectstore/fs/index.ts");
    let seen = 0;
    for (let round = 0; round < 10; round++) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", restlessWriter, module, directory], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(child.stdout, "data");
      await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 100));
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      expect(await ended).toEqual([null, "SIGKILL"]);
      for await (const object of store.list("")) {
        const bytes = await store.get(object.key);
        expect(bytes.length).toBe(3_000_000);
        expect(Buffer.compare(bytes, new Uint8Array(3_000_000).fill(bytes[0] ?? 0))).toBe(0);
        await store.delete(object.key);
        seen++;
      }
    }
    expect(seen).toBeGreaterThan(10);
    await fixture.dispose();
  });
});

const isRoot = process.getuid?.() === 0;
const canMount = isRoot && process.platform === "linux";
if (!canMount) process.stderr.write("skipped: fs store on full and read-only file systems: mounting a tmpfs needs root on Linux\n");

describe.skipIf(!canMount)("fs store on a file system of its own", () => {
  let mount: string;
  let store: FsObjectStore;
  beforeEach(async () => {
    mount = await mkdtemp(join(tmpdir(), "thinstream-mount-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", mount]);
    store = new FsObjectStore(join(mount, "repo"));
  });
  afterEach(async () => {
    await store.close();
    execFileSync("umount", [mount]);
    await rm(mount, { recursive: true });
  });

  it("says no-space when it is full, keeps what was there and leaves nothing half-written", async () => {
    await store.put("a", pattern(1_000_000, 1));
    await expectCode(store.put("a", pattern(8_000_000, 2)), "no-space");
    const full = await expectCode(store.putIfAbsent("b", pattern(8_000_000, 2)), "no-space");
    expect(full.message).toContain(`the file system of ${join(mount, "repo")} is full: cannot write b: `);
    expect(await keys(store)).toEqual(["a"]);
    expect(Buffer.compare(await store.get("a"), pattern(1_000_000, 1))).toBe(0);
    await store.put("c", pattern(2_000_000, 3));
    expect(await keys(store)).toEqual(["a", "c"]);
  });

  it("says access-denied when it is read-only, and reads", async () => {
    await store.put("a", Buffer.from("x"));
    execFileSync("mount", ["-o", "remount,ro", mount]);
    const error = await expectCode(store.put("b", Buffer.from("x")), "access-denied");
    expect(error.hint).toContain("writable");
    await expectCode(store.delete("a"), "access-denied");
    expect((await store.get("a")).length).toBe(1);
    const other = new FsObjectStore(join(mount, "elsewhere"));
    await expectCode(other.put("b", Buffer.from("x")), "access-denied");
    await other.close();
  });
});
