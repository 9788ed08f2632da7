import type { ObjectMeta } from "../api/index.ts";

export type { ObjectMeta, OwnerReference } from "../api/index.ts";

/** Any object of the API. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

interface Named {
  readonly metadata: Partial<ObjectMeta> & { readonly generateName?: string };
}

/** An object as it is written: `apiVersion` and `kind` are filled in, and its name may be left to the server. */
export type Manifest = Named | (Named & Readonly<Record<string, unknown>>);

/** A kind of object the API serves. `T` is what its objects look like. */
export interface ResourceKind<T extends KubeObject = KubeObject> {
  /** empty for the core group */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Carries the type; never there. */
  readonly objects?: T;
}

/** Names one object; `namespace` only for kinds that have one. An object's `metadata` is such a reference. */
export interface ObjectRef {
  readonly name: string;
  readonly namespace?: string | undefined;
}

/** `namespace/name`, or `name` where there is no namespace: what caches and queues know an object by. */
export function keyOf({ metadata }: KubeObject): string {
  return refKey(metadata);
}

export function refKey({ namespace, name }: ObjectRef): string {
  return namespace === undefined || namespace === "" ? name : `${namespace}/${name}`;
}

/** The reference a key stands for. */
export function refOf(key: string): ObjectRef {
  const slash = key.indexOf("/");
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

export function apiVersionOf({ group, version }: ResourceKind): string {
  return group === "" ? version : `${group}/${version}`;
}

/** `restorepoints.thinstream.dev`; `pods` for the core group. */
export function resourceName({ plural, group }: ResourceKind): string {
  return group === "" ? plural : `${plural}.${group}`;
}

/** The path of a kind's objects, in one namespace or in all. */
export function collectionPath(kind: ResourceKind, namespace: string | undefined): string {
  const root = kind.group === "" ? "/api" : "/apis";
  const scope = kind.namespaced && namespace !== undefined && namespace !== "" ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${root}/${apiVersionOf(kind)}${scope}/${kind.plural}`;
}

export function objectPath(kind: ResourceKind, { name, namespace }: ObjectRef, subresource?: string): string {
  // A missing name would turn a call for one object into one for all of them.
  if (name === "" || (kind.namespaced && (namespace ?? "") === "")) {
    throw new TypeError(`${resourceName(kind)} "${name}" needs a name${kind.namespaced ? " and a namespace" : ""}`);
  }
  const path = `${collectionPath(kind, namespace)}/${encodeURIComponent(name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}

/** For messages: `pods "a" in namespace "b"`. */
export function describeObject(kind: ResourceKind, { name, namespace }: ObjectRef): string {
  return `${resourceName(kind)} "${name}"${kind.namespaced && namespace !== undefined ? ` in namespace "${namespace}"` : ""}`;
}
