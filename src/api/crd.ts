import { createHash } from "node:crypto";
import type { TSchema } from "typebox";
import { apiVersion, group, type Kind, version } from "./kind.ts";

/** A JSON value, as YAML takes it. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Annotation of our CustomResourceDefinitions: a hash of what they define, by which an old one is told from one of today. */
export const definitionAnnotation = "thinstream.dev/definition";

export interface CustomResourceDefinition {
  readonly [key: string]: Json;
  readonly metadata: {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly spec: { readonly [key: string]: Json };
}

/** The CustomResourceDefinition of a kind. */
export function customResourceDefinition(kind: Kind): CustomResourceDefinition {
  const spec = specOf(kind);
  const digest = createHash("sha256").update(JSON.stringify(spec)).digest("hex").slice(0, 16);
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${kind.plural}.${group}`,
      labels: { "app.kubernetes.io/name": "thinstream" },
      annotations: { [definitionAnnotation]: digest },
    },
    spec,
  };
}

function specOf(kind: Kind): { readonly [key: string]: Json } {
  const { plural, scope } = kind;
  return {
    group,
    names: {
      kind: kind.kind,
      listKind: `${kind.kind}List`,
      plural,
      singular: kind.kind.toLowerCase(),
      shortNames: [kind.shortName],
      categories: ["thinstream"],
    },
    scope,
    versions: [
      {
        name: version,
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: kind.columns.map((column) => ({ ...column })),
        schema: { openAPIV3Schema: objectSchema(kind) },
      },
    ],
  };
}

function objectSchema(kind: Kind): Json {
  return {
    type: "object",
    description: kind.description,
    required: ["spec"],
    properties: {
      apiVersion: { type: "string", description: `Always ${apiVersion}.` },
      kind: { type: "string", description: `Always ${kind.kind}.` },
      metadata: { type: "object" },
      spec: structural(kind.spec),
      status: structural(kind.status),
    },
    ...(kind.rules === undefined ? {} : { "x-kubernetes-validations": kind.rules.map((rule) => ({ ...rule })) }),
  };
}

/** The schema in Kubernetes' own dialect: what has a default need not be written, so it is not `required`. */
function structural(schema: TSchema): Json {
  return withoutDefaulted(JSON.parse(JSON.stringify(schema)) as Json);
}

function withoutDefaulted(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutDefaulted);
  if (typeof value !== "object" || value === null) return value;
  const { required, ...rest } = value as { readonly [key: string]: Json };
  const properties = (rest["properties"] ?? {}) as { readonly [key: string]: { readonly [key: string]: Json } };
  const needed = Array.isArray(required) ? required.filter((name) => properties[String(name)]?.["default"] === undefined) : required;
  const walked = Object.fromEntries(Object.entries(rest).map(([key, one]) => [key, key === "default" ? one : withoutDefaulted(one)]));
  const kept = needed === undefined || (Array.isArray(needed) && needed.length === 0) ? {} : { required: needed };
  return { ...ofThese(walked, ["type", "description", "default"]), ...kept, ...walked };
}

/** These keys first, for whoever reads the file. */
function ofThese(value: { readonly [key: string]: Json }, keys: readonly string[]): { readonly [key: string]: Json } {
  return Object.fromEntries(keys.flatMap((key) => (value[key] === undefined ? [] : [[key, value[key]]])));
}
