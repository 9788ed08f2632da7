import type { Static, TObject } from "typebox";
import type { Reasons } from "./conditions.ts";
import type { Rule } from "./schema.ts";

export const group = "thinstream.dev";
export const version = "v1alpha1";
export const apiVersion = `${group}/${version}` as const;

/** A column of `kubectl get`. */
export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "boolean" | "date";
  readonly jsonPath: string;
  readonly description: string;
  /** 1: with `-o wide` alone */
  readonly priority?: 1;
}

/** A kind of the group, all there is to know of it. */
export interface Kind<Spec extends TObject = TObject, Status extends TObject = TObject> {
  readonly kind: string;
  readonly plural: string;
  readonly shortName: string;
  readonly scope: "Cluster" | "Namespaced";
  readonly description: string;
  readonly spec: Spec;
  readonly status: Status;
  /** of the object as a whole: its name is in reach here alone */
  readonly rules?: readonly Rule[];
  readonly columns: readonly Column[];
  readonly reasons: Reasons;
}

/** Of metav1.ObjectMeta what is used here, as it is in JSON. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

/** An object of a kind as the API server gives it, defaults filled. */
export interface Resource<K extends Kind> {
  readonly apiVersion: typeof apiVersion;
  readonly kind: K["kind"];
  readonly metadata: ObjectMeta;
  readonly spec: Static<K["spec"]>;
  readonly status?: Static<K["status"]>;
}

/** Keeps the literal `kind` and the schemas' own types. */
export function defineKind<const K extends Kind>(kind: K): K {
  return kind;
}

/** Names of cluster-wide kinds go into labels of what belongs to them. */
export const nameFitsLabel: Rule = {
  rule: "size(self.metadata.name) <= 63",
  message: "the name must have at most 63 characters, so that it fits a label",
};

export const age: Column = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Time since it was made." };

/** The columns of a condition: its status, and its reason and message for `-o wide`. */
export function conditionColumn(type: string, description: string): Column {
  return { name: type, type: "string", jsonPath: `.status.conditions[?(@.type=="${type}")].status`, description };
}

export function reasonColumn(type: string, priority?: 1): Column {
  return {
    name: "Reason",
    type: "string",
    jsonPath: `.status.conditions[?(@.type=="${type}")].reason`,
    description: `Why ${type} is as it is, in one word.`,
    ...(priority === undefined ? {} : { priority }),
  };
}

export function messageColumn(type: string): Column {
  return {
    name: "Message",
    type: "string",
    jsonPath: `.status.conditions[?(@.type=="${type}")].message`,
    description: `Why ${type} is as it is, in a sentence.`,
    priority: 1,
  };
}
