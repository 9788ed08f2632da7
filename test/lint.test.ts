import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const scratch = mkdtempSync(join(tmpdir(), "thinstream-lint-"));
afterAll(() => rmSync(scratch, { recursive: true }));

/** What the linter says of these sources (by path) under the project's own configuration: `path: message` lines. */
function lint(sources: Readonly<Record<string, string>>): string {
  const tree = mkdtempSync(join(scratch, "tree-"));
  const all = { ...sources, "oxlint.config.ts": `export { default } from ${JSON.stringify(join(root, "oxlint.config.ts"))};\n` };
  for (const [path, source] of Object.entries(all)) {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    writeFileSync(join(tree, path), source);
  }
  const run = spawnSync(join(root, "node_modules/.bin/oxlint"), ["--deny-warnings", "-f", "json", "src"], { cwd: tree, encoding: "utf8" });
  expect(run.stderr).toBe("");
  const { diagnostics } = JSON.parse(run.stdout) as { diagnostics: { filename: string; code: string; message: string; help?: string }[] };
  return diagnostics.map(({ filename, message, help }) => `${filename}: ${message} ${help ?? ""}`).join("\n");
}

const uses = (name: string): string => `import * as it from "${name}";\nexport const used: unknown = it;\n`;

describe("the linter holds the layers too", () => {
  test.each([
    ["src/repository/reader.ts", "../nbd/index.ts", "the repository stores any engine's disks"],
    ["src/repository/write/pack.ts", "../../agent/index.ts", "the repository stores any engine's disks"],
    ["src/repository/format/pack.ts", "../repository.ts", "the format is bytes to values"],
    ["src/repository/format/pack.ts", "node:fs", "repository/format is pure"],
    ["src/objectstore/index.ts", "./s3/index.ts", "cli alone names adapters"],
    ["src/objectstore/s3/index.ts", "../fs/index.ts", "an adapter knows its port"],
    ["src/restore/plan.ts", "../nbd/extents.ts", "Enter a module by its index.ts"],
    ["src/controller/policy.ts", "../repository/index.ts", "never touches disk data"],
    ["src/lib/bytes.ts", "../cli/main.ts", "lib stands under everything"],
    ["src/libvirt/domain.ts", "koffi", "has its home elsewhere"],
    ["src/objectstore/fs/index.ts", "@aws-sdk/client-s3", "has its home elsewhere"],
    ["src/lib/clock.ts", "pino", "has its home elsewhere"],
  ])("%s must not import %s", (path, name, words) => {
    const said = lint({ [path]: uses(name) });
    expect(said).toContain(`${path}: `);
    expect(said).toContain(words);
  });

  test("and leaves alone what the rules allow", () => {
    const allowed = {
      "src/agent/main.ts": uses("../libvirt/index.ts") + uses("../lib/errors.ts").replaceAll("it", "errors").replace("used", "alsoUsed"),
      "src/cli/main.ts": uses("../objectstore/s3/index.ts"),
      "src/libvirt/native.ts": uses("koffi"),
      "src/libvirt/xml.ts": uses("fast-xml-parser"),
      "src/lib/log.ts": uses("pino"),
      "src/objectstore/s3/index.ts": uses("../errors.ts"),
      "src/repository/format/pack.ts": uses("node:crypto"),
      "src/repository/write/uploader.ts": uses("../format/pack.ts"),
    };
    expect(lint(allowed)).toBe("");
  });
});
