import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What measures; and where pods run with the ports that the chart gives them, which on one machine are there once. */
const wantsNoNeighbours = /^test\/bars\/|scale\.test\.ts$|^test\/chart\/(?:rights|install)|^test\/operator\/story/;

/**
 * The test files under `root`, apart: those that start other programs (`lab`), of them those that want no neighbours (`alone`), those that
 * only compute (`pure`), and those that need a machine of their own (`e2e`). Paths from `root`.
 */
export function testProjects(root: string): {
  readonly pure: readonly string[];
  readonly lab: readonly string[];
  readonly alone: readonly string[];
  readonly e2e: readonly string[];
} {
  const all = globSync("test/**/*.test.ts", { cwd: root }).toSorted();
  const e2e = all.filter((file) => file.startsWith("test/e2e/"));
  const files = all.filter((file) => !e2e.includes(file));
  const known = new Map<string, boolean>();
  const lab = new Set(files.filter((file) => startsPrograms(join(root, file), known)));
  const alone = [...lab].filter((file) => wantsNoNeighbours.test(file));
  return { pure: files.filter((file) => !lab.has(file)), lab: [...lab].filter((file) => !alone.includes(file)), alone, e2e };
}

/** Whether a test file, or a file of `test/` it imports, uses the lab or starts a program itself. */
function startsPrograms(file: string, known: Map<string, boolean>): boolean {
  const before = known.get(file);
  if (before !== undefined) return before;
  known.set(file, false);
  const found = imports(file).some((name) => {
    if (name === "node:child_process" || /(?:^|\/)lab\//.test(name)) return true;
    const imported = join(dirname(file), name);
    return name.startsWith(".") && !imported.includes("/src/") && existsSync(imported) && startsPrograms(imported, known);
  });
  known.set(file, found);
  return found;
}

function imports(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(/^(?:import|export)\s[^;]*?["']([^"'\n]+)["'];?$/gm)].map((match) => match[1] ?? "");
}
