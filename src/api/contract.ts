import { type Static, type TObject, type TProperties, type TSchema, type TUnion, Type } from "typebox";
import { Check, Errors } from "typebox/value";

import { ContractError } from "./contract-error.ts";

/** An object with these fields and no others. */
export function record<P extends TProperties>(properties: P): TObject<P> {
  return Type.Object(properties, { additionalProperties: false });
}

/** One of several objects, told apart by the text in their field `tag`. */
export function oneOfBy<const M extends TObject[]>(tag: string, members: [...M]): TUnion<M> {
  return Type.Union(members, { discriminator: { propertyName: tag } });
}

/** Reads JSON of a contract. `what` begins the sentence of an error. Throws `ContractError`. */
export function parseContract<S extends TSchema>(schema: S, bytes: Uint8Array | string, what: string): Static<S> {
  let value: unknown;
  try {
    value = JSON.parse(typeof bytes === "string" ? bytes : new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    // Without its cause: that one quotes what it stumbled over, which may be a key.
    throw new ContractError("not-json", `${what} is not JSON`);
  }
  return checkContract(schema, value, what);
}

/** A value that is as the schema says. Throws `ContractError`. */
export function checkContract<S extends TSchema>(schema: S, value: unknown, what: string): Static<S> {
  if (isObject(value) && isObject(schema) && "version" in keywords(schema).properties && "version" in value && value["version"] !== 1)
    throw new ContractError("version", `${what} is not of version 1: controller and agent are of different releases`);
  if (!Check(schema, value)) throw new ContractError("invalid", `${what} is invalid: ${complaint(schema, value, "")}`);
  return value;
}

interface Keywords {
  readonly discriminator: { readonly propertyName: string } | undefined;
  readonly anyOf: readonly TSchema[];
  readonly properties: Readonly<Record<string, TSchema>>;
  readonly required: readonly string[];
  readonly items: TSchema | undefined;
  readonly additional: unknown;
  readonly constant: unknown;
}

function keywords(schema: TSchema): Keywords {
  const all = schema as unknown as Readonly<Record<string, unknown>>;
  return {
    discriminator: all["discriminator"] as Keywords["discriminator"],
    anyOf: (all["anyOf"] ?? []) as readonly TSchema[],
    properties: (all["properties"] ?? {}) as Keywords["properties"],
    required: (all["required"] ?? []) as readonly string[],
    items: all["items"] as TSchema | undefined,
    additional: all["additionalProperties"],
    constant: all["const"],
  };
}

/** What is wrong with a value, in words that begin with its field's name. */
function complaint(schema: TSchema, value: unknown, path: string): string {
  const { discriminator, properties, items } = keywords(schema);
  if (discriminator !== undefined) return unionComplaint(schema, value, { path, tag: discriminator.propertyName });
  if (isObject(value) && Object.keys(properties).length > 0) return objectComplaint(schema, value, path);
  if (Array.isArray(value) && items !== undefined) {
    const index = value.findIndex((item) => !Check(items, item));
    if (index >= 0) return complaint(items, value[index], `${path}[${index}]`);
  }
  const [first] = Errors(schema, value);
  const field = path === "" ? "it" : path;
  return `${field} ${first === undefined ? "is not as it must be" : first.message.replace(/^must match a schema in anyOf$/, "is of none of the kinds it may be")}`;
}

function unionComplaint(schema: TSchema, value: unknown, { path, tag }: { readonly path: string; readonly tag: string }): string {
  const members = keywords(schema).anyOf;
  const name = (member: TSchema): unknown => keywords(keywords(member).properties[tag] ?? member).constant;
  if (!isObject(value)) return `${path === "" ? "it" : path} must be an object`;
  const chosen = members.find((member) => name(member) === value[tag]);
  return chosen === undefined ? `${below(path, tag)} must be one of ${members.map(name).join(", ")}` : complaint(chosen, value, path);
}

function objectComplaint(schema: TSchema, value: Readonly<Record<string, unknown>>, path: string): string {
  const { properties, required, additional } = keywords(schema);
  const missing = required.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return `${below(path, missing)} is missing`;
  const unknown = additional === false ? Object.keys(value).find((name) => !Object.hasOwn(properties, name)) : undefined;
  if (unknown !== undefined)
    return `${path === "" ? "it" : path} has a field that is not of the contract: ${JSON.stringify(unknown.slice(0, 64))}`;
  const wrong = Object.entries(properties).find(([name, member]) => Object.hasOwn(value, name) && !Check(member, value[name]));
  return wrong === undefined
    ? `${path === "" ? "it" : path} is not as it must be`
    : complaint(wrong[1], value[wrong[0]], below(path, wrong[0]));
}

function below(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
