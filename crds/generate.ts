// Writes what follows from src/api, `npm run -s crds`: the CustomResourceDefinitions beside this file, the same in the chart, and the schema
// of the specs that the chart's values hold. `test/api/crds.test.ts` and `test/chart/files.test.ts` hold them to it.
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { stringify } from "yaml";
import { backupPolicy, backupRepository, customResourceDefinition, group, type Json, type Kind, kinds } from "../src/api/index.ts";

const header = "# Generated from src/api by `npm run crds`: change it there.\n";
const chart = join(import.meta.dirname, "../charts/thinstream");

/** File name to text. */
export function crdFiles(): ReadonlyMap<string, string> {
  return new Map(
    kinds.map((kind) => [
      `${group}_${kind.plural}.yaml`,
      header + stringify(customResourceDefinition(kind), { lineWidth: 0, aliasDuplicateObjects: false }),
    ]),
  );
}

/** The chart's values.schema.json: written by hand but for the two specs, which are the kinds' own. */
export function valuesSchema(written: string): string {
  const schema = JSON.parse(written) as { readonly $defs: object };
  const $defs = { ...schema.$defs, backupRepository: specSchema(backupRepository), backupPolicy: specSchema(backupPolicy) };
  return `${JSON.stringify({ ...schema, $defs }, null, 2)}\n`;
}

interface Served {
  readonly versions: readonly [{ readonly schema: { readonly openAPIV3Schema: { readonly properties: { readonly spec: Json } } } }];
}

function specSchema(kind: Kind): Json {
  const { versions } = customResourceDefinition(kind).spec as unknown as Served;
  return strict(versions[0].schema.openAPIV3Schema.properties.spec);
}

/** As JSON Schema has it: without Kubernetes' own words, and with no field but those that are there, where the server would drop them. */
function strict(value: Json): Json {
  if (Array.isArray(value)) return value.map(strict);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value as Readonly<Record<string, Json>>).filter(([key]) => !key.startsWith("x-kubernetes-"));
  const walked = Object.fromEntries(kept.map(([key, one]) => [key, key === "properties" ? ofEach(one) : strict(one)]));
  return walked["type"] === "object" && walked["properties"] !== undefined ? { ...walked, additionalProperties: false } : walked;
}

/** The names of fields are no words of the schema. */
function ofEach(properties: Json): Json {
  return Object.fromEntries(Object.entries(properties as Readonly<Record<string, Json>>).map(([name, one]) => [name, strict(one)]));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const dir of [import.meta.dirname, join(chart, "crds")]) {
    mkdirSync(dir, { recursive: true });
    for (const old of globSync("*.yaml", { cwd: dir })) rmSync(join(dir, old));
    for (const [name, text] of crdFiles()) writeFileSync(join(dir, name), text);
  }
  const values = join(chart, "values.schema.json");
  writeFileSync(values, valuesSchema(readFileSync(values, "utf8")));
}
