import { customResourceDefinition, type Kind } from "../../src/api/index.ts";

/** A schema as it stands in a CustomResourceDefinition. */
export interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly format?: string;
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
  readonly maxLength?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly "x-kubernetes-list-type"?: string;
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-validations"?: readonly { readonly rule: string; readonly message: string }[];
}

interface Definition {
  readonly spec: {
    readonly names: { readonly shortNames: readonly string[]; readonly categories: readonly string[] };
    readonly versions: readonly [{ readonly subresources: object; readonly schema: { readonly openAPIV3Schema: Schema } }];
  };
}

export function definition(kind: Kind): Definition {
  return customResourceDefinition(kind) as unknown as Definition;
}

export function schemaOf(kind: Kind): Schema {
  return definition(kind).spec.versions[0].schema.openAPIV3Schema;
}

/** Every schema below this one, by its path: `spec.disks[].name`. */
export function* walk(schema: Schema, path = ""): Generator<readonly [string, Schema]> {
  yield [path, schema];
  for (const [name, property] of Object.entries(schema.properties ?? {})) yield* walk(property, path === "" ? name : `${path}.${name}`);
  if (schema.items !== undefined) yield* walk(schema.items, `${path}[]`);
  if (schema.additionalProperties !== undefined) yield* walk(schema.additionalProperties, `${path}{}`);
}

/** Every rule of a kind: where it holds, and what it says. */
export function rulesOf(kind: Kind): { readonly at: string; readonly message: string }[] {
  return [...walk(schemaOf(kind))].flatMap(([at, schema]) =>
    (schema["x-kubernetes-validations"] ?? []).map(({ message }) => ({ at, message })),
  );
}
