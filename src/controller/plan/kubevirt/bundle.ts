import { errorText } from "../../../lib/errors.ts";
import { InvalidValueError } from "../../../lib/invalid-value.ts";
import { keyOf, type Reference } from "./capture.ts";
import type { Metadata } from "./objects.ts";

/** Any object of the API server. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Metadata;
  readonly [field: string]: unknown;
}

/** The objects that are kept with a restore point, as `kubernetes.json`. */
export interface Bundle {
  readonly version: 1;
  readonly namespace: string;
  /** The machine's name. */
  readonly name: string;
  readonly objects: readonly KubeObject[];
  /** What the machine names and the cluster did not have: `<kind>/<namespace>/<name>`. */
  readonly missing: readonly string[];
}

/** The bundle of a machine's objects as text: the same objects always give the same. Who wrote which field is not kept. */
export function bundle(
  machine: { readonly namespace: string; readonly name: string },
  objects: readonly KubeObject[],
  missing: readonly Reference[],
): string {
  const byKey = new Map(objects.map((object) => [keyOfObject(object), withoutManagedFields(object)]));
  const found = [...byKey].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  const { namespace, name } = machine;
  return canonicalJson({ version: 1, namespace, name, objects: found, missing: missing.map(keyOf).toSorted() } satisfies Bundle);
}

/** Reads a bundle. Throws `InvalidValueError` for a text that is none. */
export function parseBundle(text: string): Bundle {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InvalidValueError(`the objects kept with the restore point are no JSON: ${errorText(error)}`, { cause: error });
  }
  if (!isBundle(value)) {
    throw new InvalidValueError("the objects kept with the restore point are of an unknown form", {
      hint: "a newer Thinstream may have made it: use that version",
    });
  }
  return value;
}

/** The object of this kind and name, in the machine's namespace where none is said. */
export function findObject({ objects, namespace }: Bundle, kind: string, name: string): KubeObject | null {
  return (
    objects.find((one) => one.kind === kind && one.metadata.name === name && (one.metadata.namespace ?? namespace) === namespace) ?? null
  );
}

export function keyOfObject({ kind, metadata }: KubeObject): string {
  return keyOf({ kind, namespace: metadata.namespace ?? null, name: metadata.name ?? "" });
}

/** JSON with the keys of every object in order. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, field: unknown) => {
    if (typeof field !== "object" || field === null || Array.isArray(field)) return field;
    return Object.fromEntries(Object.entries(field).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function withoutManagedFields(object: KubeObject): KubeObject {
  const metadata = Object.fromEntries(Object.entries(object.metadata).filter(([name]) => name !== "managedFields"));
  return { ...object, metadata };
}

function isBundle(value: unknown): value is Bundle {
  const { version, namespace, name, objects, missing } = (value ?? {}) as Partial<Record<keyof Bundle, unknown>>;
  if (version !== 1 || typeof namespace !== "string" || typeof name !== "string" || !Array.isArray(missing)) return false;
  return Array.isArray(objects) && objects.every(isObject);
}

function isObject(value: unknown): boolean {
  const { apiVersion, kind, metadata } = (value ?? {}) as Partial<KubeObject>;
  return typeof apiVersion === "string" && typeof kind === "string" && typeof metadata === "object" && typeof metadata?.name === "string";
}
