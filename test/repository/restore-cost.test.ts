/* oxlint-disable vitest/expect-expect -- compare asserts */
import { randomBytes, randomFillSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { CountingObjectStore, type ObjectStore, parseStoreUrl, type S3Location } from "../../src/objectstore/index.ts";
import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { MemoryObjectStore } from "../../src/objectstore/memory/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { ImageReader, imageOf, type ImageRoot, type PointRecord, Repository } from "../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { seeded, someGranules } from "./big-disk.ts";
import { KEY, newRepository, restore } from "./harness.ts";
import { commitLight, type Entry, writeLight } from "./light-writer.ts";

const GRANULE = 65_536;
/** `SOAK=1`: a disk of 1 GiB of which every run changes a hundredth; else a sixteenth of both. */
const SCALE = process.env["SOAK"] === "1" ? 16 : 1;
const GRANULES = 1024 * SCALE;
const POINTS = 100;
const DIRTY = 10 * SCALE;
const REPEATS = 5;
const signal = new AbortController().signal;

interface History {
  readonly store: MemoryObjectStore;
  readonly first: PointRecord;
  readonly last: PointRecord;
  /** content of the disk at the last point */
  readonly bytes: Buffer;
}

/** Data that does not compress, then 99 incrementals of a hundredth of the disk, in runs anywhere: every point has the same amount of live data. */
async function history(run: number): Promise<History> {
  const store = new MemoryObjectStore();
  const repository = await newRepository(store);
  const bytes = randomBytes(GRANULES * GRANULE);
  const random = seeded(3);
  const points: PointRecord[] = [];
  let image: ImageRoot | null = null;
  for (let i = 0; i < POINTS; i++) {
    const places =
      i === 0 ? [...Array.from({ length: GRANULES / run }).keys()] : someGranules(Math.ceil(DIRTY / run), GRANULES / run, random);
    const granules = places.flatMap((place) => Array.from({ length: run }, (_, n) => place * run + n));
    const entries = granules.map((granule): Entry => {
      const content = bytes.subarray(granule * GRANULE, (granule + 1) * GRANULE);
      if (i > 0) randomFillSync(content);
      return [granule, content];
    });
    image = await writeLight(repository, image, { size: bytes.length, entries });
    points.push(await commitLight(repository, image));
  }
  return { store, first: points[0] as PointRecord, last: points.at(-1) as PointRecord, bytes };
}

interface Cost {
  readonly reads: number;
  readonly bytes: number;
  readonly milliseconds: number;
}

async function costOf(inner: ObjectStore, point: PointRecord): Promise<Cost> {
  const store = new CountingObjectStore(inner);
  const repository = await Repository.open({ store, key: KEY });
  const image = imageOf(point, "vda");
  if (image === null) throw new Error("no disk");
  const reader = new ImageReader(repository);
  try {
    // The threads start with the first job: that is not what is measured.
    const target = { blank: true, write: async (): Promise<void> => undefined, zero: async (): Promise<void> => undefined };
    const { reads, bytes } = { reads: store.counts.read, bytes: store.bytesDown };
    const start = performance.now();
    await reader.copy(image, target, { signal });
    return { reads: store.counts.read - reads, bytes: store.bytesDown - bytes, milliseconds: performance.now() - start };
  } finally {
    await reader.close();
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

/** Alternating, so that what else the machine does falls on both. */
async function compare(name: string, store: ObjectStore, { first, last }: History): Promise<void> {
  const costs: { readonly first: Cost[]; readonly last: Cost[] } = { first: [], last: [] };
  for (let i = 0; i < REPEATS; i++) {
    costs.first.push(await costOf(store, first));
    costs.last.push(await costOf(store, last));
  }
  const [a, b] = [costs.first, costs.last].map((all) => ({
    ...(all[0] as Cost),
    milliseconds: median(all.map((one) => one.milliseconds)),
  })) as [Cost, Cost];
  const show = ({ reads, bytes, milliseconds }: Cost): string => `${reads} reads, ${bytes} bytes, ${Math.round(milliseconds)} ms`;
  process.stderr.write(
    `restore from ${name}: point 1: ${show(a)}; point ${POINTS}: ${show(b)}; bytes ${(b.bytes / a.bytes).toFixed(3)}, time ${(b.milliseconds / a.milliseconds).toFixed(2)}\n`,
  );
  expect(b.bytes / a.bytes).toBeLessThanOrEqual(1.05);
  // Never more than one request for each granule and node: what a chain of 100 increments would need is 100 times that.
  expect(b.reads).toBeLessThanOrEqual(GRANULES + GRANULES / 16);
}

describe.each([
  ["granules anywhere, the worst there is", 1],
  ["stretches of 1 MiB anywhere, as programs write", 16],
])("the last of 100 points costs what the first does, written in %s:", (written, run) => {
  let made: History;
  let lab: S3Lab | null = null;
  beforeAll(async () => {
    made = await history(run);
  }, 600_000);
  afterAll(async () => await lab?.stop());

  async function fill(store: ObjectStore): Promise<void> {
    for await (const { key } of made.store.list("")) await store.put(key, await made.store.get(key));
  }

  test("and is right", async () => {
    const repository = await Repository.open({ store: made.store, key: KEY });
    expect((await restore(repository, made.last, "vda")).equals(made.bytes)).toBe(true);
  });

  test("from files", async () => {
    const store = new FsObjectStore(tempDir("cost"));
    await fill(store);
    await compare(`files, ${written}`, store, made);
    await store.close();
  });

  test.skipIf(skipWithout("s3"))("from S3", async () => {
    lab = await startS3({ bucket: "cost" });
    Object.assign(process.env, lab.env);
    const store = new S3ObjectStore(parseStoreUrl(lab.url("x")) as S3Location);
    await fill(store);
    await compare(`S3, ${written}`, store, made);
    await store.close();
  });
});
