import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DeleteObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { formatKeyFile, type LockReport } from "../../src/repository/index.ts";
import { skipWithout, tempDir } from "../lab/index.ts";
import { KEY } from "../repository/harness.ts";
import { LockedRepository, LockLab } from "../repository/lock/lab.ts";
import { thinstream, thinstreamJson } from "../support/thinstream.ts";

describe.skipIf(skipWithout("s3"))("thinstream lock", () => {
  let lab: LockLab;
  beforeAll(async () => {
    lab = await LockLab.start();
  }, 120_000);
  afterAll(async () => await lab?.stop());

  test("says in text and in JSON what is locked until when, what was renewed and what is wrong", async () => {
    const repo = await LockedRepository.create(lab, 2);
    const keyFile = join(tempDir("lock"), "key");
    writeFileSync(keyFile, formatKeyFile(KEY), { mode: 0o600 });
    const flags = ["--repo", lab.s3.url(repo.prefix), "--key-file", keyFile];
    const dry = await thinstream(["lock", ...flags, "--for", "30d", "--dry-run"]);
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringMatching(/Would extend the locks of 8 objects/) as string });
    const few = await thinstream(["lock", ...flags, "--for", "30d", "--requests", "3"]);
    expect(few).toMatchObject({ code: 1, stdout: expect.stringMatching(/5 more objects are due[^]*NOT LOCKED: 5 objects/) as string });
    const rest = await thinstreamJson<LockReport>(["lock", ...flags, "--for", "30d"]);
    expect(rest).toMatchObject({ renewed: 5, unlocked: 0, left: 0, points: 2, missing: { objects: 0 } });
    const again = await thinstream(["lock", ...flags, "--for", "4w2d", "--mode", "compliance", "--verify"]);
    expect(again).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^2 restore points count; 8 objects that they need are locked, all of them until \d{4}-[^]*\nExtended the locks of 0 objects/,
      ) as string,
    });
    const [pack] = await repo.versions("packs/");
    await lab.admin.send(new DeleteObjectCommand({ Bucket: lab.s3.bucket, Key: pack?.Key }));
    const alarmed = await thinstream(["lock", ...flags, "--for", "30d"]);
    expect(alarmed).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/DELETED: objects that are needed[^]*\(1\):\n {2}packs\//) as string,
    });
    expect((await thinstream(["lock", ...flags, "--for", "2d"])).code).toBe(2);
    expect((await thinstream(["lock", "--repo", `file://${tempDir("unlocked")}`, "--for", "30d"])).code).toBe(1);
  }, 120_000);
});
