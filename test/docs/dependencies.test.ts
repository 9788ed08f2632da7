import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..", "..");

test("the README gives the reason for each package that users run, and for no other", () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: Record<string, string> };
  const section = readFileSync(join(root, "README.md"), "utf8").split("## What it depends on\n")[1]?.split("\n## ")[0] ?? "";
  const rows = [...section.matchAll(/^\| `([^`]+)`\s+\| (.+) \|$/gm)].map(([, name = "", reason = ""]) => ({
    name,
    reason: reason.trim(),
  }));
  expect(rows.map(({ name }) => name).toSorted()).toEqual(Object.keys(dependencies).toSorted());
  for (const { name, reason } of rows) expect(reason.length, name).toBeGreaterThan(20);
});
