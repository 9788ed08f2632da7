import { globSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import posix from "node:path/posix";
import { describe, expect, test } from "vitest";
import { homes, moduleOf, modules, pureBuiltins, shareFolder } from "./layers.ts";

/** Sources by path below `src`. */
type Tree = ReadonlyMap<string, string>;

const importForms = [
  /\b(?:import|export)\b[^"'`;]*?\bfrom\s*["']([^"']+)["']/g,
  /^\s*import\s*["']([^"']+)["']/gm,
  /\b(?:import|require)\(\s*["'`]([^"'`]+)["'`]/g,
  /\bnew URL\(\s*["'](\.[^"']+)["']\s*,\s*import\.meta\.url/g,
];
const impurity = /\b(?:Date\.now|new Date\(\)|Math\.random|performance\.now|process\.|setTimeout|fetch\()/;

function violations(tree: Tree): string[] {
  return [...tree].flatMap(([path, source]) => {
    const code = source.replace(/^\s*(?:\/\*\*?|\*|\/\/).*$/gm, "");
    const names = importForms.flatMap((form) => [...code.matchAll(form)].map((match) => match[1] ?? ""));
    const found = names.map((name) => complaint(path, name));
    if (/\bimport\(\s*[^"'`\s)]/.test(code)) found.push("imports what no one can check");
    const owner = modules[moduleOf(path) ?? ""];
    if (/new URL\(\s*["'][^"']+\.ts["']/.test(code)) found.push("names a .ts file that the build has as .js");
    if (owner === undefined) found.push("lies in no module of the table");
    if (owner?.pure && impurity.test(code)) found.push(`is not pure: ${impurity.exec(code)?.[0]}`);
    return found.filter((text) => text !== undefined).map((text) => `${path} ${text}`);
  });
}

function complaint(path: string, name: string): string | undefined {
  const from = moduleOf(path) ?? "";
  if (name.startsWith(".")) return relativeComplaint(path, from, name);
  if (builtinModules.includes(name.replace(/^node:/, ""))) {
    if (!name.startsWith("node:")) return `imports ${name} without node:`;
    return modules[from]?.pure && !pureBuiltins.includes(name) ? `is not pure: ${name}` : undefined;
  }
  const home = Object.entries(homes).find(([pattern]) =>
    pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : packageOf(name) === pattern,
  );
  if (home === undefined) return `imports ${name}, which has no home`;
  return home[1].some((place) => (place.endsWith("/") ? path.startsWith(place) : path === place))
    ? undefined
    : `imports ${name} outside ${home[1].join(", ")}`;
}

function relativeComplaint(path: string, from: string, name: string): string | undefined {
  const target = posix.normalize(posix.join(posix.dirname(path), name));
  const to = moduleOf(target);
  if (to === undefined) return `imports ${target}, which is in no module`;
  if (to === from) return undefined;
  if (!modules[from]?.mayImport.includes(to)) return `imports ${to}: ${modules[from]?.why}`;
  return to === "lib" || shareFolder(from, to) || target === `${to}/index.ts` ? undefined : `enters ${to} beside its door: ${target}`;
}

function packageOf(name: string): string {
  return name.split("/", name.startsWith("@") ? 2 : 1).join("/");
}

const root = join(import.meta.dirname, "../src");
const tree: Tree = new Map(
  globSync("**/*.ts", { cwd: root })
    .toSorted()
    .map((path) => [path, readFileSync(join(root, path), "utf8")]),
);

describe("the layers of src", () => {
  test("hold: imports only go down, by the door, and every package stays in its home", () => {
    expect(tree.size).toBeGreaterThan(10);
    expect(violations(tree)).toEqual([]);
  });

  test("are a table without a way back up", () => {
    const names = Object.keys(modules);
    const upward = names.flatMap((name, index) =>
      modules[name]?.mayImport.filter((below) => names.indexOf(below) >= index).map((below) => `${name} -> ${below}`),
    );
    expect(upward).toEqual([]);
  });

  test.each([
    ["repository/reader.ts", 'import { connect } from "../nbd/index.ts";', "imports nbd"],
    ["repository/reader.ts", 'import type { BackupSource } from "../agent/index.ts";', "imports agent"],
    ["repository/reader.ts", 'const { s3 } = await import("../objectstore/s3/index.ts");', "imports objectstore/s3"],
    ["repository/reader.ts", 'type S = import("../objectstore/fs/index.ts").FsObjectStore;', "imports objectstore/fs"],
    ["objectstore/index.ts", 'export * from "./s3/index.ts";', "imports objectstore/s3"],
    ["repository/format/pack.ts", 'import { Repository } from "../repository.ts";', "imports repository"],
    ["repository/format/pack.ts", 'import { readFile } from "node:fs/promises";', "is not pure: node:fs/promises"],
    ["repository/format/pack.ts", "export const made: number = Date.now();", "is not pure: Date.now"],
    ["restore/plan.ts", 'import {\n  decodePack,\n} from "../repository/format/index.ts";', "imports repository/format"],
    ["restore/plan.ts", 'export { mergeExtents } from "../nbd/extents.ts";', "enters nbd beside its door: nbd/extents.ts"],
    ["restore/plan.ts", 'const worker = new URL("../nbd/worker.ts", import.meta.url);', "enters nbd beside its door"],
    ["restore/plan.ts", 'const worker = new URL("./worker.ts", import.meta.url);', "names a .ts file that the build has as .js"],
    ["controller/policy.ts", 'import { Repository } from "../repository/index.ts";', "never touches disk data"],
    ["lib/bytes.ts", 'import { StoreError } from "../objectstore/index.ts";', "imports objectstore"],
    ["agent/main.ts", 'import "../cli/main.ts";', "imports cli"],
    ["agent/main.ts", "const engine = await import(name);", "imports what no one can check"],
    ["libvirt/domain.ts", 'import koffi from "koffi";', "imports koffi outside libvirt/native.ts, nbd/native.ts"],
    ["objectstore/fs/index.ts", 'import { S3Client } from "@aws-sdk/client-s3";', "imports @aws-sdk/client-s3 outside objectstore/s3/"],
    ["agent/main.ts", 'import { pino } from "pino";', "imports pino outside lib/log.ts, cli/"],
    ["agent/main.ts", 'import leftPad from "left-pad";', "imports left-pad, which has no home"],
    ["agent/main.ts", 'import { join } from "path";', "imports path without node:"],
    ["utils/misc.ts", "export {};", "lies in no module of the table"],
  ])("a planted violation is named: %s %s", (path, source, words) => {
    const found = violations(new Map([[path, source]]));
    expect(found.join("\n")).toContain(`${path} `);
    expect(found.join("\n")).toContain(words);
  });

  test.each([
    [
      "agent/main.ts",
      'import { connect } from "../libvirt/index.ts";\nimport { errorText } from "../lib/errors.ts";\nimport { join } from "node:path";',
    ],
    ["objectstore/s3/index.ts", 'import { StoreError } from "../errors.ts";\nconst sdk = await import("@aws-sdk/client-s3");'],
    ["repository/uploader.ts", 'import { sealPack } from "./format/pack.ts";'],
    ["cli/main.ts", 'const { S3ObjectStore } = await import("../objectstore/s3/index.ts");'],
    ["lib/bytes.ts", '/** Not like `import x from "../cli/main.ts"`. */\n// import y from "../cli/main.ts"\nexport {};'],
  ])("what the rules allow is left alone: %s", (path, source) => {
    expect(violations(new Map([[path, source]]))).toEqual([]);
  });
});

test("files stay small: none above 400 lines", () => {
  const sizes = [...tree].map(([path, source]) => ({ path, lines: source.split("\n").length - 1 })).toSorted((a, b) => a.lines - b.lines);
  const largest = sizes.at(-1);
  console.info(
    `src: ${sizes.length} files, median ${sizes[sizes.length >> 1]?.lines} lines, largest ${largest?.path} with ${largest?.lines}`,
  );
  expect(sizes.filter(({ lines }) => lines > 400)).toEqual([]);
});
