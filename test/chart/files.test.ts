import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { crdFiles, valuesSchema } from "../../crds/generate.ts";

const root = join(import.meta.dirname, "../..");
const at = (path: string): string => readFileSync(join(root, "charts/thinstream", path), "utf8");

describe("the chart's files", () => {
  test("have the CRDs of crds/, and nothing else (npm run crds makes it so)", () => {
    const there = globSync("*.yaml", { cwd: join(root, "charts/thinstream/crds") }).map((name) => [name, at(`crds/${name}`)] as const);
    expect(new Map(there)).toEqual(crdFiles());
  });

  test("have the specs of src/api in the schema of the values (npm run crds makes it so)", () => {
    expect(at("values.schema.json")).toBe(valuesSchema(at("values.schema.json")));
  });

  test("are of the version of package.json", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    expect(parse(at("Chart.yaml"))).toMatchObject({ version, appVersion: version });
  });

  test("give every default value a place in the schema, and every value of the schema a default", () => {
    const { properties } = JSON.parse(at("values.schema.json")) as { properties: object };
    const values = parse(at("values.yaml")) as object;
    expect(Object.keys(values).toSorted()).toEqual(
      Object.keys(properties)
        .filter((name) => name !== "global")
        .toSorted(),
    );
  });

  test("name no metric that docs/metrics.md does not know", () => {
    const known = readFileSync(join(root, "docs/metrics.md"), "utf8");
    const used = [...`${at("monitoring/rules.yaml")}${at("monitoring/dashboard.json")}`.matchAll(/\bthinstream_[a-z_]+/g)].map(
      ([name]) => name,
    );
    expect(used.length).toBeGreaterThan(10);
    const unknown = [...new Set(used)].filter((name) => !known.includes(`\`${name.replace(/_(?:bucket|sum|count)$/, "")}\``));
    expect(unknown).toEqual([]);
  });

  test("alert on what the operator promises, each with a sentence that says what to do", () => {
    const { groups } = parse(at("monitoring/rules.yaml")) as {
      groups: { rules: { alert: string; expr: string; annotations: Record<string, string> }[] }[];
    };
    const rules = groups.flatMap((group) => group.rules);
    expect(rules.map(({ alert }) => alert)).toEqual([
      "ThinstreamRPOMissed",
      "ThinstreamRunFailed",
      "ThinstreamRunStalled",
      "ThinstreamRepositoryUnreachable",
      "ThinstreamDamageFound",
      "ThinstreamNotAllLocked",
      "ThinstreamUpkeepMissed",
      "ThinstreamNobodyLeads",
    ]);
    for (const { annotations } of rules) expect(annotations["description"]).toMatch(/kubectl get|Look at/);
  });

  test("draw a dashboard whose panels do not lie on each other", () => {
    const { panels } = JSON.parse(at("monitoring/dashboard.json")) as {
      panels: { id: number; gridPos: { x: number; y: number; w: number; h: number }; targets: { expr: string }[] }[];
    };
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)},${y + Math.floor(cell / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    expect(panels.every(({ targets }) => targets.every(({ expr }) => expr.includes("thinstream_")))).toBe(true);
  });
});
