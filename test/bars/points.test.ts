import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { type PointRecord, parseKeyFile, Repository } from "../../src/repository/index.ts";
import { skipWithout, tempDir } from "../lab/index.ts";
import { measured } from "./measured.ts";

const POINTS = 10_000;
const AT_ONCE = 32;
/** seconds of CPU; time would be the neighbours' as well. Measured: 2.6 to 3.4 on a busy machine, and 3.8 to 4.7 there before points were read as they are now */
const LIMIT = 5;
/** bytes. Measured: 140 to 151 MiB; with all of every point in memory it was 270 */
const MEMORY = 200 * 2 ** 20;

/** A point as a machine with two disks and the usual captures leaves it, hourly, every tenth by a clock that was set back. */
function nthPoint(template: PointRecord, seq: number): PointRecord {
  const [vm = ""] = template.id.split("-");
  const [disk] = template.disks;
  const piece = { ...disk!.root!, textLength: 5000 };
  const hours = seq % 10 === 0 ? seq - 500 : seq;
  return {
    ...template,
    id: `${vm}-${seq}`,
    seq,
    parent: `${vm}-${seq - 1}`,
    time: new Date(Date.UTC(2026, 0, 1) + hours * 3_600_000).toISOString(),
    disks: ["vda", "vdb"].map((name) => ({ ...disk!, name, checkpoint: `ts-0011223344-${seq}` })),
    captures: ["domain.xml", "inactive.xml", "nvram", "freeze.json", "tool.json"].map((name) => ({
      name,
      size: 5000,
      pieces: [piece],
    })),
  };
}

test.skipIf(skipWithout("host"))(`${POINTS} points of one machine are listed in seconds, in the order they were taken`, async () => {
  const dir = tempDir("points");
  const flags = ["--repo", `file://${join(dir, "repository")}`, "--key-file", join(dir, "key")];
  const image = join(dir, "web.raw");
  writeFileSync(image, Buffer.alloc(1024 * 1024, 7));
  await measured(["init", ...flags]);
  const { json } = await measured(["backup", ...flags, "--image", image]);
  const store = new FsObjectStore(join(dir, "repository"));
  const repository = await Repository.open({ store, key: parseKeyFile(readFileSync(join(dir, "key"), "utf8")) });
  const first = await repository.catalog.point(String(json["point"]));
  const [vm = ""] = first.id.split("-");
  for (let from = 2; from <= POINTS; from += AT_ONCE) {
    const seqs = Array.from({ length: Math.min(AT_ONCE, POINTS - from + 1) }, (_unused, i) => from + i);
    await Promise.all(seqs.map(async (seq) => await repository.catalog.commit(vm, nthPoint(first, seq))));
  }
  await repository.catalog.writeHead(vm, POINTS);
  await store.close();

  const listed = await measured(["points", ...flags]);
  const points = listed.json["points"] as readonly { readonly id: string }[];
  console.log(`${POINTS} points: ${listed.seconds} s, ${listed.cpu.toFixed(1)} s of CPU, ${(listed.peak / 2 ** 20).toFixed(0)} MiB`);
  expect(points.map(({ id }) => id)).toEqual(Array.from({ length: POINTS }, (_unused, i) => `${vm}-${i + 1}`));
  expect(listed.cpu).toBeLessThan(LIMIT);
  expect(listed.peak).toBeLessThan(MEMORY);
  // The next backup looks for the newest point without a list: it takes no longer than with one point.
  const next = await measured(["backup", ...flags, "--image", image]);
  expect([next.json["point"], next.cpu < LIMIT]).toEqual([`${vm}-${POINTS + 1}`, true]);
});
