import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";

import { FsObjectStore } from "../../src/objectstore/fs/index.ts";
import { Repository } from "../../src/repository/index.ts";
import { run, tempDir } from "../lab/index.ts";
import { pointsAt } from "../support/dated-points.ts";

const root = join(import.meta.dirname, "..", "..");

test("the commands of docs/retention.md work as they stand, and keep and forget what the page says", async () => {
  const page = readFileSync(join(root, "docs/retention.md"), "utf8");
  const [byRules = "", holds = ""] = [...page.matchAll(/```sh\n([^`]*)```/g)].map(([, block]) => block);
  expect([byRules, holds].map((block) => block.split("\n").length)).toEqual([4, 3]);
  const dir = tempDir("retention");
  const store = new FsObjectStore(dir);
  onTestFinished(async () => await store.close());
  const repository = await Repository.init({ store, key: null });
  const nights = Array.from({ length: 32 }, (_, i) => new Date(Date.UTC(2026, 9, 20 + i, 1)).toISOString());
  const times = [...nights.slice(0, 31), "2026-11-19T13:00:00.000Z", ...nights.slice(31)];
  const ids = await pointsAt(repository, "web1", times);
  const shell = async (script: string): Promise<string> =>
    await run("bash", ["-euc", `thinstream() { sh "${root}/src/cli/thinstream.sh" "$@"; }\n${script}`], {
      env: { ...process.env, REPO: `file://${dir}`, POINT: ids[0] ?? "" },
    });
  const [hold = "", release = ""] = holds.trim().split("\n");
  await shell(hold);
  const said = await shell(byRules);
  const rows = [...page.matchAll(/^01594b4c8083-\d+ +(2026-\S+) +(keep|forget) +(.*)$/gm)];
  expect(rows).toHaveLength(3);
  for (const [, time = "", what = "", why = ""] of rows) {
    expect(said, time).toMatch(new RegExp(`${time.replaceAll(".", "\\.")} +${what} +${why}$`, "m"));
  }
  const left = (await repository.catalog.list()).points.map(({ time }) => time);
  expect(left).toEqual([times[0], "2026-11-18T01:00:00.000Z", "2026-11-19T13:00:00.000Z", "2026-11-20T01:00:00.000Z"]);
  await shell(release);
  expect((await repository.catalog.list()).held.size).toBe(0);
});
