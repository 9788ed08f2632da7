import { type Static, type TObject, type TOptional, type TString, Type } from "typebox";
import { list, mapOf, object, oneOf, optional, section, setOf, shaped, stringMap, text, time, integer, byteCount } from "./schema.ts";
import type { ConditionOf, Reasons } from "./conditions.ts";

const subdomain = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

export function objectName(description: string): TString {
  return text(description, 253, { minLength: 1, pattern: subdomain });
}

export function namespaceName(description: string): TString {
  return text(description, 63, { minLength: 1, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" });
}

/** A reference by name to an object whose kind and namespace are clear. */
export function nameRef(description: string, nameDescription: string): TObject<{ name: TString }> {
  return object(description, { name: objectName(nameDescription) });
}

/** A Secret, named from a kind that has no namespace of its own. */
export function secretRef(description: string): TObject<{ name: TString; namespace: TOptional<TString> }> {
  return object(description, {
    name: objectName("Name of the Secret."),
    namespace: optional(namespaceName("Namespace of the Secret. Default: the namespace the operator runs in.")),
  });
}

const requirement = object(
  "One requirement of a label selector.",
  {
    key: text("The label's key.", 317, { minLength: 1 }),
    operator: oneOf("How the label's value relates to the values.", ["In", "NotIn", "Exists", "DoesNotExist"]),
    values: optional(list("Values for In and NotIn; absent for Exists and DoesNotExist.", Type.String({ maxLength: 63 }), 64)),
  },
  {
    rules: [
      {
        rule: "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
        message: "In and NotIn need values, Exists and DoesNotExist take none",
      },
    ],
  },
);

const selectorFields = {
  matchLabels: optional(stringMap("Labels that must all be there with these values.", 32, 63)),
  matchExpressions: optional(list("Requirements that must all hold.", requirement, 16)),
};

export function labelSelector(description: string): TObject<typeof selectorFields> {
  return object(description, selectorFields, { "x-kubernetes-map-type": "atomic" });
}
export type LabelSelector = Static<TObject<typeof selectorFields>>;

const diskName = text("Name of a disk: the volume's name in the VirtualMachine, or libvirt's target such as vda.", 253, { minLength: 1 });

export const excludedDisks = section("Which disks of a virtual machine belong to its backup. Default: all that can be backed up.", {
  exclude: optional(
    setOf("Disks to leave out, by the volume's name in the VirtualMachine, or libvirt's target such as vda.", diskName, 256),
  ),
});

export const progress = object("How far it is. Written every ten seconds at most.", {
  percent: integer("Share that is done, in percent.", 0, 100),
  doneBytes: byteCount("Bytes of the disks that are done."),
  totalBytes: byteCount("Bytes of the disks in all."),
});

export const warnings = list("What was not as it should be, though nothing failed; the newest last.", Type.String({ maxLength: 1024 }), 20);

export const podRef = object("The agent pod of the present or last attempt.", {
  namespace: namespaceName("Namespace of the pod: the operator's own."),
  name: objectName("Name of the pod."),
});

export const lastFailure = object("The last attempt that failed, kept after a later one succeeded.", {
  time: time("When it failed."),
  nodeName: optional(objectName("The node it ran on.")),
  message: text("Why, in a sentence.", 1024),
  agentLog: optional(text("The last lines of the agent's log, without secrets.", 4096)),
});

const conditionSchema = object("One condition.", {
  type: text("What the condition is about, in PascalCase.", 316, { pattern: "^[A-Z][A-Za-z0-9]*$" }),
  status: oneOf("Whether it holds.", ["True", "False", "Unknown"]),
  observedGeneration: optional(Type.Integer({ description: "The metadata.generation this was said of.", format: "int64", minimum: 0 })),
  lastTransitionTime: time("When status last changed."),
  reason: text("Why, in one word in PascalCase.", 128, { pattern: "^[A-Z][A-Za-z0-9]*$" }),
  message: text("Why, in a sentence that says what to do where something is to be done; may be empty.", 4096),
});

/** What every status begins with. */
// oxlint-disable-next-line typescript/explicit-module-boundary-types -- the schema is the type
export function statusHead<R extends Reasons>(_reasons: R, said: string) {
  return {
    observedGeneration: optional(
      Type.Integer({ description: "The metadata.generation that this status was worked out from.", format: "int64", minimum: 0 }),
    ),
    conditions: optional(
      shaped<readonly ConditionOf<R>[]>(mapOf(`What holds now: ${said}.`, { items: conditionSchema, keys: ["type"], maxItems: 16 })),
    ),
  };
}
