import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatBytes } from "../../src/lib/bytes.ts";
import { skipWithout, tempDir } from "../lab/index.ts";
import { measured, type Measured } from "./measured.ts";
import { differenceOf, makeSparse, piecesOf, type SparseImage, TiB } from "./sparse-image.ts";

const MiB = 2 ** 20;
const LIMIT = 300 * MiB;
/** `SOAK=1`: the whole bar, 64 TiB with 1,048,576 pieces of data; else a quarter of it. */
const size = process.env["SOAK"] === "1" ? 64 * TiB : 16 * TiB;
const skipped = skipWithout("host");

describe.skipIf(skipped)(`memory bar: ${size / TiB} TiB`, () => {
  let dir: string;
  let images: string;
  beforeAll(() => {
    dir = tempDir("memory");
    images = join(dir, "images");
    mkdirSync(images);
    // Other file systems have no files of this size; a tmpfs of its own takes no more than it holds.
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=8G", "thinstream-bar", images], { encoding: "utf8" });
    if (mounted.status !== 0) throw new Error(`no tmpfs could be mounted: ${mounted.stderr}`);
  });
  afterAll(() => {
    spawnSync("umount", [images]);
    rmSync(dir, { recursive: true, force: true });
  });

  test.each<[string, SparseImage, string]>([
    ["every piece different", { size, stride: 64 * MiB, piece: 512, equal: false }, "lz4"],
    ["every piece the same", { size, stride: 64 * MiB, piece: 512, equal: true }, "none"],
  ])(
    "%s: backup and restore stay within 300 MiB",
    async (_what, image, compression) => {
      const flags = ["--repo", `file://${join(dir, `repository-${compression}`)}`, "--key-file", join(dir, "key")];
      const path = join(images, "disk.raw");
      makeSparse(path, image);
      await measured(["init", ...flags]);
      const backup = await measured(["backup", ...flags, "--image", path, "--vm", "huge", "--compression", compression]);
      report(`backup of ${piecesOf(image)} pieces`, backup);
      rmSync(path);
      const restore = await measured(["restore", ...flags, "--point", "latest", "--output", join(images, "restored")]);
      report("restore", restore);
      expect(differenceOf(join(images, "restored", "vda.raw"), image)).toBeNull();
      rmSync(join(images, "restored"), { recursive: true });
      expect(backup.peak).toBeLessThanOrEqual(LIMIT);
      expect(restore.peak).toBeLessThanOrEqual(LIMIT);
    },
    3_600_000,
  );
});

function report(what: string, { peak, seconds, cpu }: Measured): void {
  console.log(`${what}: ${formatBytes(peak)} resident at most, ${seconds.toFixed(0)} s, ${cpu.toFixed(0)} s of CPU`);
}
