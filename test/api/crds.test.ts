import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { crdFiles } from "../../crds/generate.ts";
import { kinds } from "../../src/api/index.ts";
import { definition, schemaOf, walk } from "./schemas.ts";

const dir = join(import.meta.dirname, "../../crds");

describe("crds/", () => {
  test("holds what src/api says, and nothing else (npm run crds makes it so)", () => {
    const there = globSync("*.yaml", { cwd: dir }).map((name) => [name, readFileSync(join(dir, name), "utf8")] as const);
    expect(new Map(there)).toEqual(crdFiles());
  });

  test("has the five kinds", () => {
    const found = kinds.map(({ kind, plural, shortName, scope }) => [kind, plural, shortName, scope]);
    expect(found).toEqual([
      ["BackupRepository", "backuprepositories", "bkrepo", "Cluster"],
      ["BackupPolicy", "backuppolicies", "bkpol", "Cluster"],
      ["VirtualMachineBackup", "virtualmachinebackups", "tvmb", "Namespaced"],
      ["RestorePoint", "restorepoints", "rp", "Namespaced"],
      ["RestoreRequest", "restorerequests", "rr", "Namespaced"],
    ]);
  });
});

describe.each(kinds.map((kind) => [kind.kind, kind] as const))("%s", (_name, kind) => {
  const all = [...walk(schemaOf(kind))];

  test("takes no name that others go by", () => {
    const { shortNames, categories } = definition(kind).spec.names;
    expect(["vmbackup", "vmbackups", "vmrestore", "vmexport", "bak", "sched", "bsl", "rs", "rc"]).not.toContain(shortNames[0]);
    expect(categories).toEqual(["thinstream"]);
  });

  test("says of every field what it is, in sentences", () => {
    const fields = all.filter(([path]) => path !== "metadata" && !path.endsWith("[]") && !path.endsWith("{}"));
    expect(fields.filter(([, { description }]) => !/^[A-Z].*\.$/s.test(description ?? ""))).toEqual([]);
  });

  test("says in the description what a default is, and every default it says is there", () => {
    const scalar = all.filter(([, schema]) => schema.default !== undefined && schema.type !== "object");
    const unsaid = scalar.filter(([, schema]) => !schema.description?.endsWith(`Default: ${String(schema.default)}.`));
    expect(unsaid.map(([path]) => path)).toEqual([]);
  });

  test("bounds every text, list and map, so that rules have a price", () => {
    const spec = all.filter(([path]) => path.startsWith("spec") || path.startsWith("status"));
    const bounded = ({
      type,
      maxLength,
      maxItems,
      maxProperties,
      format,
      enum: values,
      additionalProperties,
    }: (typeof all)[0][1]): boolean =>
      (type !== "string" || maxLength !== undefined || values !== undefined || format === "date-time") &&
      (type !== "array" || maxItems !== undefined) &&
      (additionalProperties === undefined || maxProperties !== undefined);
    expect(spec.filter(([, schema]) => !bounded(schema)).map(([path]) => path)).toEqual([]);
  });

  test("is structural: each schema has one type and no keyword that Kubernetes does not know", () => {
    const known =
      /^(?:type|description|default|enum|format|pattern|required|properties|items|additionalProperties|min\w+|max\w+|x-kubernetes-\S+)$/;
    const foreign = all.flatMap(([path, schema]) =>
      Object.keys(schema)
        .filter((key) => !known.test(key))
        .map((key) => `${path}: ${key}`),
    );
    expect(foreign).toEqual([]);
    expect(all.filter(([, { type }]) => type === undefined).map(([path]) => path)).toEqual([]);
  });

  test("says how each list is merged", () => {
    const lists = all.filter(([, { type }]) => type === "array");
    expect(lists.filter(([, schema]) => !["atomic", "set", "map"].includes(schema["x-kubernetes-list-type"] ?? ""))).toEqual([]);
  });

  test("has conditions, an observed generation and a status of its own", () => {
    const status = schemaOf(kind).properties?.["status"]?.properties;
    expect(status?.["conditions"]).toMatchObject({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] });
    expect(status?.["observedGeneration"]).toMatchObject({ type: "integer", format: "int64" });
    expect(definition(kind).spec.versions[0].subresources).toEqual({ status: {} });
  });

  test("shows nothing in a column that its schema does not have", () => {
    const paths = all.map(([path]) => `.${path}`);
    const plain = kind.columns.filter(({ jsonPath }) => !/[[*]/.test(jsonPath) && !jsonPath.startsWith(".metadata"));
    expect(plain.filter(({ jsonPath }) => !paths.includes(jsonPath))).toEqual([]);
    const types = kind.columns.flatMap(({ jsonPath }) => /@\.type=="(\w+)"/.exec(jsonPath)?.[1] ?? []);
    expect(types.filter((type) => !(type in kind.reasons))).toEqual([]);
  });
});

test("the columns tell the story", () => {
  const shown = kinds.map(({ kind, columns }) => {
    const names = (wide: boolean): string =>
      columns
        .filter(({ priority }) => (priority === 1) === wide)
        .map(({ name }) => name.toUpperCase())
        .join(" ");
    return `${kind}: ${names(false)} | ${names(true)}`;
  });
  expect(shown).toEqual([
    "BackupRepository: READY REASON BUCKET POINTS STORED SYNCED AGE | SOUND PRUNED PREFIX ENCRYPTION MESSAGE",
    "BackupPolicy: SCHEDULE SUSPEND VMS PROTECTED LAST NEXT READY AGE | RPO REPOSITORY ZONE REASON MESSAGE",
    "VirtualMachineBackup: MACHINE SUCCEEDED REASON LEVEL PERCENT UPLOADED AGE | CONSISTENCY NODE POINT REPOSITORY MESSAGE",
    "RestorePoint: MACHINE TIME LEVEL CONSISTENCY SIZE READY HOLD AGE | VERIFIED REPOSITORY POINT MESSAGE",
    "RestoreRequest: TARGET SUCCEEDED REASON PERCENT POINT AGE | NODE MESSAGE",
  ]);
});
