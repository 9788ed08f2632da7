import {
  type TArray,
  type TBoolean,
  type TEnum,
  type TInteger,
  type TObject,
  type TProperties,
  type TSchema,
  type TSchemaOptions,
  type TString,
  type TUnsafe,
  Type,
} from "typebox";

/**
 * A rule in CEL that the API server holds, with the sentence it says when the rule is broken. Rules are priced before they run, from the
 * longest values the schema lets through: so every string, list and map has a bound.
 */
export interface Rule {
  readonly rule: string;
  readonly message: string;
}

/** What a field may have beside its description. */
export interface FieldOptions extends TSchemaOptions {
  readonly rules?: readonly Rule[];
}

/** An optional field. A field with a `default` is none: whoever reads it from the API server finds it filled. */
export const optional: typeof Type.Optional = Type.Optional;

export function object<P extends TProperties>(description: string, properties: P, options: FieldOptions = {}): TObject<P> {
  return Type.Object(properties, keywords(description, options));
}

/** An object that is always there, so that the defaults of its fields are: all of them have one, or are optional. */
export function section<P extends TProperties>(description: string, properties: P, options: FieldOptions = {}): TObject<P> {
  return object(description, properties, { default: {}, ...options });
}

export function text(description: string, maxLength: number, options: FieldOptions = {}): TString {
  return Type.String(keywords(description, { maxLength, ...options }));
}

export function oneOf<const V extends string[]>(description: string, values: readonly [...V], options: FieldOptions = {}): TEnum<V> {
  return Type.Enum([...values], keywords(description, { type: "string", ...options }));
}

export function integer(description: string, minimum: number, maximum: number, options: FieldOptions = {}): TInteger {
  return Type.Integer(keywords(description, { format: "int32", minimum, maximum, ...options }));
}

/** A count of bytes, exact up to 2^53. */
export function byteCount(description: string): TInteger {
  return Type.Integer(keywords(description, { format: "int64", minimum: 0 }));
}

export function flag(description: string, options: FieldOptions = {}): TBoolean {
  return Type.Boolean(keywords(description, options));
}

/** A moment, RFC 3339. */
export function time(description: string): TString {
  return Type.String(keywords(description, { format: "date-time" }));
}

/** A list that one writer writes as a whole. */
export function list<S extends TSchema>(description: string, items: S, maxItems: number): TArray<S> {
  return Type.Array(items, keywords(description, { maxItems, "x-kubernetes-list-type": "atomic" }));
}

/** A list without duplicates, whose members may come from several writers. */
export function setOf<S extends TSchema>(description: string, items: S, maxItems: number): TArray<S> {
  return Type.Array(items, keywords(description, { maxItems, "x-kubernetes-list-type": "set" }));
}

/** A list of objects that are told apart by `keys`. */
export function mapOf<S extends TObject>(
  description: string,
  { items, keys, maxItems }: { items: S; keys: readonly (keyof S["properties"] & string)[]; maxItems: number },
): TArray<S> {
  return Type.Array(items, keywords(description, { maxItems, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys }));
}

export function stringMap(description: string, maxProperties: number, maxLength: number): TUnsafe<Record<string, string>> {
  return Type.Unsafe(keywords(description, { type: "object", maxProperties, additionalProperties: { type: "string", maxLength } }));
}

/** The schema of a value whose type is said elsewhere. */
export function shaped<T>(schema: TSchema): TUnsafe<T> {
  return Type.Unsafe(schema);
}

function keywords(description: string, { rules, ...options }: FieldOptions): TSchemaOptions {
  return { description, ...options, ...(rules === undefined ? {} : { "x-kubernetes-validations": rules }) };
}
