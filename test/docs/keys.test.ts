import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { run, tempDir } from "../lab/index.ts";
import { thinstream, thinstreamJson } from "../support/thinstream.ts";

const root = join(import.meta.dirname, "..", "..");

test("the commands of docs/keys.md work as they stand", { timeout: 180_000 }, async () => {
  const page = readFileSync(join(root, "docs/keys.md"), "utf8");
  const [slots = "", rotation = "", domains = ""] = [...page.matchAll(/```sh\n([^`]*)```/g)].map(([, block]) => block);
  const [addWords = "", addFile = "", list = "", remove = ""] = slots.trim().split("\n");
  const dir = tempDir("keys");
  const REPO = `file://${dir}/repo`;
  const shell = async (script: string, SLOT = ""): Promise<string> =>
    await run("bash", ["-euc", `cd "${dir}"\nthinstream() { sh "${root}/src/cli/thinstream.sh" "$@"; }\n${script}`], {
      env: { ...process.env, REPO, SLOT },
    });
  writeFileSync(join(dir, "passphrase.txt"), "as long as it is wide\n", { mode: 0o600 });
  await shell('thinstream init --repo "$REPO" --key-file root.key');
  await shell(addWords);
  const SLOT = /slot ([0-9a-f]{16})/.exec(await shell(addFile))?.[1] ?? "";
  const listed = await shell(list);
  expect(listed).toMatch(/passphrase +the safe .* opens, used now/);
  expect(listed).toMatch(new RegExp(`${SLOT} +key-file +alice .* opens`));
  expect(await shell(remove, SLOT)).toContain(`Removed the slot ${SLOT}`);
  expect(await shell(rotation)).toMatch(/replaced/);
  expect(await thinstreamJson(["points", "--repo", REPO, "--key-file", join(dir, "new.key")])).toMatchObject({ points: [] });
  const commands = domains.trim().split("\n");
  expect(commands).toHaveLength(6);
  writeFileSync(join(dir, "web1.raw"), Buffer.alloc(65_536, 1));
  const [backup = "", ...rest] = commands;
  const withKey = `export THINSTREAM_KEY_FILE=new.key\n`;
  await shell(withKey + backup.replace("--connect qemu:///system --domain web1", "--image web1.raw"));
  const [, kept = "", shown = "", , destroyed = ""] = await inOrder(rest, async (command) => await shell(withKey + command));
  expect(kept).toMatch(
    /blue +[0-9a-f]{8} +1 .* whole\n[^]*red +[0-9a-f]{8} +0 .* whole|red +[0-9a-f]{8} +0 .* whole\n[^]*blue +[0-9a-f]{8} +1 .* whole/,
  );
  expect(shown).toMatch(/web1 +blue/);
  expect(destroyed).toContain("Destroyed the key of the domain blue");
  const { stderr } = await thinstream(["points", "--repo", REPO, "--key-file", join(dir, "root.key")]);
  for (const [words, said] of [
    [/This key was the repository's until/, stderr],
    [/This key is not the repository's/, (await thinstream(["points", "--repo", REPO, "--key-file", join(dir, "alice.key")])).stderr],
  ] as const) {
    expect(said).toMatch(words);
    expect(page).toMatch(words);
  }
});

async function inOrder<T>(items: readonly string[], work: (item: string) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}
