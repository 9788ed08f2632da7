import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { parseStoreUrl, type S3Location } from "../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../src/objectstore/s3/index.ts";
import { type CheckReport, formatKeyFile } from "../../src/repository/index.ts";
import { type S3Lab, skipWithout, startS3, tempDir } from "../lab/index.ts";
import { KEY, newRepository, take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";
import { thinstream, thinstreamJson } from "../support/thinstream.ts";

const GRANULE = 65_536;

function keyFile(): string {
  const file = join(tempDir("check"), "key");
  writeFileSync(file, formatKeyFile(KEY), { mode: 0o600 });
  return file;
}

function disk(): MemoryDisk {
  const made = new MemoryDisk("vda", 16 * GRANULE);
  made.write(0, randomBytes(8 * GRANULE));
  return made;
}

describe.skipIf(skipWithout("s3"))("check --level checksum", () => {
  let lab: S3Lab;
  beforeAll(async () => {
    lab = await startS3();
    Object.assign(process.env, lab.env);
  }, 120_000);
  afterAll(async () => await lab?.stop());

  test("says how many it compared, and what was replaced", async () => {
    const store = new S3ObjectStore(parseStoreUrl(lab.url("sums")) as S3Location);
    const repository = await newRepository(store);
    await take(repository, [disk()]);
    const flags = ["check", "--repo", lab.url("sums"), "--key-file", keyFile(), "--level", "checksum"];
    const some = await thinstreamJson<CheckReport>(flags);
    expect(some, "a tenth, at least one").toMatchObject({
      ok: true,
      packs: 2,
      bytesRead: 0,
      sums: { compared: 1, unkept: 0, unrecorded: 0 },
    });
    const all = await thinstream([...flags, "--sample", "100"]);
    expect(all).toMatchObject({ code: 0, stdout: "No damage: 1 restore points, 2 packs, the checksums of 2 compared, nothing read\n" });
    for await (const { key, size } of store.list("packs/")) if (size > GRANULE) await store.put(key, randomBytes(size));
    const found = await thinstream([...flags, "--sample", "100"]);
    expect(found).toMatchObject({ code: 1, stdout: expect.stringMatching(/^DAMAGED: [^]*it is not what was stored[^]*Touches/) as string });
    await store.close();
  }, 120_000);
});

test("a store that keeps no checksums is said to be one", async () => {
  const at = tempDir("check-fs");
  const store = new FsObjectStore(at);
  await take(await newRepository(store), [disk()]);
  await store.close();
  const flags = ["check", "--repo", `file://${at}`, "--key-file", keyFile(), "--level", "checksum", "--sample", "100"];
  expect(await thinstream(flags)).toMatchObject({
    code: 3,
    stdout: expect.stringMatching(/the checksums of 0 compared[^]*keeps no checksum of 2 packs[^]*--level read/) as string,
  });
}, 60_000);

test("a sample that is too small to tell anything says so", async () => {
  const at = tempDir("check-few");
  const store = new FsObjectStore(at);
  await take(await newRepository(store), [disk()]);
  await store.close();
  const flags = ["check", "--repo", `file://${at}`, "--key-file", keyFile(), "--sample", "50"];
  const said = expect.stringMatching(
    /^No damage: [^]*\n1 packs looked at, at random, are too few to say anything of the others\n$/,
  ) as string;
  expect(await thinstream(flags)).toMatchObject({ code: 0, stdout: said });
}, 60_000);
