import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { copyPoints } from "../../src/copy/index.ts";
import { ThinstreamError } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Codec, type PointRecord, prune, readCapture } from "../../src/repository/index.ts";
import { take } from "../repository/harness.ts";
import { readDisk } from "../repository/light-reader.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { openPlace, SharedClock } from "./clocked-store.ts";

// One party at a repository, as a process that may be killed at any moment: `actor.ts WORK PLACE CLOCK [MORE]`. Ends with 0 when it did its work,
// 2 when it said in a typed error that it could not, 1 when it saw what must not be.
const [work = "", dir = "", clock = "", more = ""] = process.argv.slice(2);
const { signal } = new AbortController();
const shared = new SharedClock(clock);
const repository = await openPlace(dir, shared);
const { catalog } = repository;

const works: Readonly<Record<string, () => Promise<void>>> = {
  async backup() {
    const [vm = "", file = ""] = more.split(":");
    const disk = new MemoryDisk("vda", 0);
    disk.bytes = readFileSync(file);
    await take(repository, [disk], { vm, captures: { sha256: digestOf(disk.bytes) } });
  },
  async restore() {
    const { points } = await catalog.list({ signal });
    const point = points[Math.floor(Math.random() * points.length)];
    if (point === undefined) return;
    const asked = await repository.store.now();
    try {
      await expectWhole(point);
    } catch (thrown) {
      if (!(await isLate(asked))) throw new WrongError(`${point.id} does not restore: ${String(thrown)}`);
    }
  },
  /** Brings what `more` does not have there. */
  async copy() {
    const asked = await repository.store.now();
    const to = await openPlace(more, shared);
    const { copied, failed } = await copyPoints({ from: repository, to, wanted: "all", codec: Codec.lz4, signal, log: silentLogger });
    if (failed.length > 0 && !(await isLate(asked))) throw new WrongError(`not copied: ${failed.map(({ message }) => message).join(", ")}`);
    console.log(`copied ${copied.length} points, ${copied.reduce((sum, { uploadedBytes }) => sum + uploadedBytes, 0)} bytes`);
  },
  async forget() {
    const { points } = await catalog.list({ signal });
    const point = points[Math.floor(Math.random() * points.length)];
    if (point !== undefined && points.length > 4) await catalog.forget(point.id);
  },
  async prune() {
    await prune(repository, { signal });
  },
  /** Every point that is listed, one after the other. */
  async verify() {
    const { points, unreadable } = await catalog.list({ signal });
    if (unreadable.length > 0) throw new WrongError(`cannot be read: ${unreadable.map(({ id }) => id).join(", ")}`);
    for (const point of points) await expectWhole(point);
    console.log(`${points.length} points are whole`);
  },
};

class WrongError extends Error {}

/** Who takes longer than a backup may, or reads what was forgotten long ago, has nobody's word. */
async function isLate(asked: Date): Promise<boolean> {
  return (await repository.store.now()).getTime() - asked.getTime() > 24 * 3_600_000;
}

function digestOf(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

/** A point keeps the digest of what its disk must restore to. */
async function expectWhole(point: PointRecord): Promise<void> {
  const [digest] = point.captures;
  if (digest === undefined) throw new WrongError(`${point.id} has no digest`);
  const bytes = await readDisk(repository, point);
  if (!digestOf(bytes).equals(await readCapture(repository, digest))) throw new WrongError(`${point.id} restores to something else`);
}

console.log("ready");
try {
  await works[work]?.();
} catch (thrown) {
  if (thrown instanceof ThinstreamError) console.log(`refused: ${thrown.code}`);
  console.error(`${work}: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}`);
  process.exitCode = thrown instanceof ThinstreamError ? 2 : 1;
}
