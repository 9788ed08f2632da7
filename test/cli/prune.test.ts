import { randomBytes } from "node:crypto";
import { globSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { formatKeyFile, type PruneReport } from "../../src/repository/index.ts";
import { tempDir } from "../lab/index.ts";
import { KEY, newRepository, restore, takeTwice } from "../repository/harness.ts";
import { thinstream, thinstreamJson } from "../support/thinstream.ts";

test("prune says in a table and in JSON what went, what waits and until when; a dry run changes nothing", async () => {
  const dir = tempDir("prune");
  const at = join(dir, "repo");
  const keyFile = join(dir, "key");
  writeFileSync(keyFile, formatKeyFile(KEY), { mode: 0o600 });
  const flags = ["--repo", `file://${at}`, "--key-file", keyFile];
  const repository = await newRepository(new FsObjectStore(at));
  const { disk, first, second } = await takeTwice(repository);
  await repository.catalog.forget(first.id);

  /** As if everything had been there for so many hours longer; also what names its own time. */
  const age = (hours: number): void => {
    const time = new Date(Date.now() - hours * 3_600_000);
    for (const file of globSync("**/*", { cwd: at })) utimesSync(join(at, file), time, time);
  };

  const fresh = await thinstream(["prune", ...flags]);
  expect(fresh).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/2 restore points count, 1 of them forgotten less than 30 hours ago/),
  });
  expect(fresh.stdout).toMatch(/Removed 0 forgotten restore points and 0 packs/);
  age(40);
  const dry = await thinstreamJson<PruneReport & { readonly dryRun: boolean }>(["prune", "--dry-run", ...flags]);
  expect(dry).toMatchObject({ dryRun: true, removed: { points: [first.id], packs: 0 }, unclear: [] });
  const marked = await thinstream(["prune", ...flags]);
  expect(marked.stdout).toMatch(/Removed 1 forgotten restore points and 0 packs/);
  expect(marked.stdout).toMatch(/were found unneeded, and have to be so again: a prune after .*Z may remove them/);
  expect(marked.stdout).toMatch(
    /1 packs, .*, are needed for less than 30 %, .*: the next backups store again what they need of 1 of them, 64/,
  );
  expect((await restore(repository, second, "vda")).equals(disk.bytes)).toBe(true);

  expect(await thinstream(["check", "--level", "list", ...flags])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^No damage: 1 restore points, \d+ packs, listed, nothing read/) as string,
  });
  expect(await thinstream(["check", "--sample", "50%", ...flags])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/\d packs looked at, at random, are too few/) as string,
  });
  await repository.store.put(`points/${second.id.slice(0, 12)}/0000000002`, randomBytes(99));
  const unclear = await thinstream(["prune", ...flags]);
  expect(unclear).toMatchObject({ code: 1, stdout: expect.stringMatching(new RegExp(`NO PACK MAY GO[^]*${second.id}: `)) });
  await repository.store.close();
}, 120_000);
