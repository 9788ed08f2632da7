import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { checkout, run, tempDir, tierPath } from "../lab/index.ts";

export const chart: string = join(checkout(), "charts/thinstream");

/** An object as the chart renders it; what a test looks at it asserts. */
export interface Rendered {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** The least that has to be said. */
export const image: object = { image: { repository: "registry.test/thinstream", tag: "test" } };

/** A file of values, as `-f` takes it. */
export function valuesFile(values: object): string {
  const file = join(mkdtempSync(join(tempDir("chart"), "values-")), "values.json");
  writeFileSync(file, JSON.stringify(values));
  return file;
}

/** helm without a cluster. @throws LabError with what it said */
export async function helm(...args: readonly string[]): Promise<string> {
  return await run(join(tierPath("cluster"), "helm"), args, { env: { PATH: process.env["PATH"], HOME: tempDir("helm") } });
}

/** What a release `ts` in namespace `backup` would have. @throws LabError */
export async function render(values: object = {}, ...more: readonly string[]): Promise<readonly Rendered[]> {
  const text = await helm("template", "ts", chart, "-n", "backup", "-f", valuesFile({ ...image, ...values }), ...more);
  return parseAllDocuments(text).flatMap((document) => (document.toJS() === null ? [] : [document.toJS() as Rendered]));
}

/** The one object of a kind, or that of a name. */
export function the(objects: readonly Rendered[], kind: string, name?: string): Rendered {
  const found = objects.filter((one) => one.kind === kind && (name === undefined || one.metadata.name === name));
  if (found.length !== 1) throw new Error(`there are ${found.length} objects ${kind} ${name ?? ""}`);
  return found[0] as Rendered;
}
