import { copyFileSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { skipWithout } from "../lab/index.ts";
import { levels, type Taken, Vm } from "./vm.ts";
import { type CheckJson, expectRefusal, MiB, World } from "./world.ts";

const skipped = skipWithout("host");

interface ForcedJson {
  readonly disks: readonly {
    readonly name: string;
    readonly path: string;
    readonly damaged: readonly { readonly offset: number; readonly length: number; readonly reason: string }[];
  }[];
}

describe.skipIf(skipped)("a damaged repository", () => {
  let world: World;
  let vm: Vm;
  beforeAll(async () => {
    world = await World.start("host");
    vm = await Vm.start(world, { vda: { size: "64M" } });
    for (const round of [0, 1, 2]) {
      await vm.write("vda", ...Array.from({ length: 32 }, (_, i) => `write -P ${1 + round * 40 + i} ${(round * 64 + i) * 256}k 64k`));
      await vm.take();
    }
  });
  afterAll(async () => world?.stop());

  function objects(kind: string): string[] {
    const files = readdirSync(join(world.repo.dir, kind), { recursive: true, withFileTypes: true });
    return files.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name)); // prettier-ignore
  }

  /** Restores everything while one object is as `harm` made it; how each point went, and that those that say 0 are right. */
  async function outcomes(path: string, harm: () => void): Promise<Map<Taken, number | null>> {
    const kept = join(world.dir, "kept");
    copyFileSync(path, kept);
    harm();
    const found = new Map<Taken, number | null>();
    try {
      for (const taken of vm.taken) {
        const result = await world.run("restore", ["--point", taken.backup.point, "--output", world.output()]);
        found.set(taken, result.code);
        if (result.code === 0) await vm.expectRestores([taken]);
        else expectRefusal(result, 1, /damaged|missing|not found|no restore point/i);
      }
      const check = await world.run("check", ["--json"]);
      const report = JSON.parse(check.stdout) as CheckJson;
      const failed = [...found].filter(([, code]) => code !== 0).map(([{ backup }]) => backup.point);
      if (failed.length > 0) {
        expect([check.code, report.ok]).toEqual([1, false]);
        const listed = report.findings.flatMap(({ what, points }) => [what, ...points]);
        expect(listed.some((one) => one.includes(relative(world.repo.dir, path)) || path.endsWith(one) || failed.includes(one))).toBe(true);
      }
    } finally {
      copyFileSync(kept, path);
    }
    return found;
  }

  test("A30 D8: one flipped bit in any pack: no restore that ends with 0 is wrong, and the flip is found", async () => {
    const packs = objects("packs");
    expect(packs.length).toBeGreaterThanOrEqual(3);
    let refused = 0;
    for (const [i, path] of packs.entries()) {
      const size = readFileSync(path).length;
      const flip = (): void => {
        const bytes = readFileSync(path);
        const at = Math.floor((size * (i + 1)) / (packs.length + 2));
        bytes[at] = (bytes[at] ?? 0) ^ 0x10;
        writeFileSync(path, bytes);
      };
      refused += [...(await outcomes(path, flip)).values()].filter((code) => code !== 0).length;
    }
    expect(refused).toBeGreaterThan(0);
    await vm.expectRestores();
  });

  test("A30 D8: a pack cut short at its end", async () => {
    const path = objects("packs")[0]!;
    const size = readFileSync(path).length;
    const found = await outcomes(path, () => truncateSync(path, Math.floor(size / 3)));
    expect([...found.values()]).toContain(1);
    await world.expectClean();
  });

  test("A31: a missing pack or point is listed by check, and costs only the points that need it", async () => {
    for (const path of [objects("packs").at(-1)!, objects("points").at(-1)!]) {
      const found = await outcomes(path, () => renameSync(path, join(world.dir, "gone")));
      expect([...found.values()].filter((code) => code !== 0).length).toBeGreaterThan(0);
    }
    await world.expectClean();
  });

  test("A30: a flipped bit in a point: it alone is unreadable; the next backup is right all the same", async () => {
    const path = objects("points").toSorted().at(-1)!;
    const whole = readFileSync(path);
    const bytes = Buffer.from(whole);
    bytes[bytes.length >> 1] = bytes[bytes.length >> 1]! ^ 1;
    writeFileSync(path, bytes);
    const last = vm.taken.at(-1)!;
    expectRefusal(await world.run("restore", ["--point", last.backup.point, "--output", world.output()]), 1, /damaged/);
    const check = await world.run("check", ["--json"]);
    expect(check.code).toBe(1);
    const listing = await world.run("points", ["--json"]);
    expect(listing.stdout).toContain(last.backup.point);
    await vm.write("vda", "write -P 99 60M 64k");
    const next = await vm.take();
    expect(next.backup.point).not.toBe(last.backup.point);
    await vm.expectRestores([next]);
    writeFileSync(path, whole);
    await vm.expectRestores();
    await vm.expectTidy();
  });

  test("A31: with the map of the newest point lost, the next backup reads and stores everything and says so; the one after is incremental", async () => {
    const newest = vm.taken.at(-1)!;
    const before = new Set(objects("packs"));
    await vm.write("vda", "write -P 98 61M 64k");
    const doomed = await vm.take();
    const packs = objects("packs").filter((path) => !before.has(path));
    expect(packs.length).toBeGreaterThan(0);
    const kept = packs.map((path) => readFileSync(path));
    for (const path of packs) rmSync(path);
    await vm.write("vda", "write -P 97 62M 64k");
    const whole = await vm.take();
    expect(levels(whole)).toEqual({ vda: "full" });
    expect(whole.backup.warnings).toEqual([expect.stringMatching(/data of earlier backups cannot be read .*thinstream check/)]);
    await vm.write("vda", "write -P 96 63M 64k");
    const next = await vm.take();
    expect([levels(next), next.backup.warnings]).toEqual([{ vda: "incremental" }, []]);
    await vm.expectRestores([newest, whole, next]);
    await vm.expectTidy();
    for (const [i, path] of packs.entries()) writeFileSync(path, kept[i]!);
    await vm.expectRestores([doomed]);
    await world.expectClean();
  });

  test("A30: --force restores what is whole, lists what is lost, and still ends with 1", async () => {
    const path = objects("packs").toSorted((a, b) => readFileSync(b).length - readFileSync(a).length)[0]!;
    const whole = readFileSync(path);
    const bytes = Buffer.from(whole);
    bytes.fill(0, 200, 260);
    writeFileSync(path, bytes);
    let listed = 0;
    for (const { backup, references } of vm.taken) {
      const result = await world.run("restore", ["--point", backup.point, "--output", world.output(), "--force", "--json"]);
      const [disk] = (JSON.parse(result.stdout) as ForcedJson).disks;
      const damaged = disk?.damaged ?? [];
      expect(result.code).toBe(damaged.length > 0 ? 1 : 0);
      listed += damaged.length;
      const [got, wanted] = [readFileSync(disk?.path ?? ""), readFileSync(references.get("vda")!)];
      for (const { offset, length } of damaged) {
        expect(length).toBeLessThanOrEqual(MiB);
        expect(got.subarray(offset, offset + length).every((byte) => byte === 0)).toBe(true);
        wanted.fill(0, offset, offset + length);
      }
      expect(got.equals(wanted)).toBe(true);
    }
    expect(listed).toBeGreaterThan(0);
    writeFileSync(path, whole);
    await world.expectClean();
  });
});
