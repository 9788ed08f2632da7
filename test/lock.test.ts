import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type LockEntry, missing } from "./complete-lock.mjs";

const { packages } = JSON.parse(readFileSync(join(import.meta.dirname, "../package-lock.json"), "utf8")) as {
  packages: Record<string, LockEntry>;
};

describe("package-lock.json", () => {
  test("names every package for every platform, so that npm ci takes it; if not, run npm run lock", () => {
    expect(Object.keys(packages).length).toBeGreaterThan(50);
    expect(missing(packages).map(({ path }) => path)).toEqual([]);
  });

  test("has a hash for everything that is installed here, and names no registry", () => {
    const onLinux = ({ os = ["linux"], cpu = ["x64"], libc = ["glibc"] }: LockEntry): boolean =>
      os.includes("linux") && cpu.includes("x64") && libc.includes("glibc");
    const unhashed = Object.entries(packages).filter(([path, entry]) => path !== "" && entry.integrity === undefined && onLinux(entry));
    expect(unhashed).toEqual([]);
    expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
  });

  test("misses are found, nested ones too", () => {
    const tree = {
      "": {},
      "node_modules/a": { optionalDependencies: { "a-linux-x64": "1.0.0", "a-win32-x64": "1.0.0", "a-darwin-x64": "1.0.0" } },
      "node_modules/a-linux-x64": {},
      "node_modules/a/node_modules/a-win32-x64": {},
    };
    expect(missing(tree).map(({ path }) => path)).toEqual(["node_modules/a-darwin-x64"]);
  });
});
