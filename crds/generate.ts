// Writes the CustomResourceDefinitions beside this file from src/api: `npm run -s crds`. `test/api/crds.test.ts` holds them to it.
import { globSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { stringify } from "yaml";
import { customResourceDefinition, group, kinds } from "../src/api/index.ts";

const header = "# Generated from src/api by `npm run crds`: change it there.\n";

/** File name to text. */
export function crdFiles(): ReadonlyMap<string, string> {
  return new Map(
    kinds.map((kind) => [
      `${group}_${kind.plural}.yaml`,
      header + stringify(customResourceDefinition(kind), { lineWidth: 0, aliasDuplicateObjects: false }),
    ]),
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const old of globSync("*.yaml", { cwd: import.meta.dirname })) rmSync(join(import.meta.dirname, old));
  for (const [name, text] of crdFiles()) writeFileSync(join(import.meta.dirname, name), text);
}
