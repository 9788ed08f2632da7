import { isKubeError, type KubeClient } from "../../kube/index.ts";
import { mapConcurrently } from "../../lib/concurrency.ts";
import { bundle, type KubeObject } from "../plan/kubevirt/bundle.ts";
import { type CapturePlan, keyOf, planCapture, type Reference } from "../plan/kubevirt/capture.ts";
import { fitBundle } from "../plan/kubevirt/fit-bundle.ts";
import type { MachineFacts } from "../plan/kubevirt/facts.ts";
import { objectKind } from "./object-kinds.ts";

/** A machine's objects as they are kept with a point, and what is to be said of them. */
export interface Captured {
  readonly text: string;
  readonly warnings: readonly string[];
}

type Fetched = { readonly object: KubeObject } | { readonly missing: Reference; readonly warning: string | null };

/**
 * Fetches everything that a machine needs besides its disks. What is not there is noted, and fails nothing. @param encrypted whether the repository is:
 * Secrets are kept in no other
 */
export async function captureMachine(
  client: KubeClient,
  { vm, vmi, namespace, name }: MachineFacts,
  { encrypted, signal }: { readonly encrypted: boolean; readonly signal: AbortSignal },
): Promise<Captured> {
  if (vm === null) throw new TypeError("a machine that is not there has no objects");
  const plan = planCapture(vm, vmi);
  const secrets = encrypted ? [] : plan.references.filter(({ kind }) => kind === "Secret");
  const wanted = plan.references.filter((reference) => !secrets.includes(reference));
  const fetched = await mapConcurrently(wanted, 4, async (reference) => await fetchOne(client, reference, signal));
  const selected = await select(client, plan, signal);
  const objects = [...fetched.flatMap((one) => ("object" in one ? [one.object] : [])), ...selected];
  const missing = fetched.flatMap((one) => ("missing" in one ? [one] : []));
  const fitting = fitBundle(objects);
  const text = bundle({ namespace, name }, fitting.objects, [...missing.map((one) => one.missing), ...secrets, ...fitting.leftOut]);
  return {
    text,
    warnings: [
      ...missing.flatMap(({ warning }) => warning ?? []),
      ...fitting.leftOut.map((one) => `${keyOf(one)} is too large to be kept with the restore point: keep a copy of it elsewhere`),
      ...(secrets.length === 0 ? [] : [`not kept, for the repository is not encrypted: ${secrets.map(keyOf).join(", ")}`]),
    ],
  };
}

async function fetchOne(client: KubeClient, reference: Reference, signal: AbortSignal): Promise<Fetched> {
  const { kind, name, namespace } = reference;
  try {
    const object = await client.get(objectKind(kind), { name, ...(namespace === null ? {} : { namespace }) }, { signal });
    return { object: { ...object, apiVersion: reference.apiVersion, kind } };
  } catch (thrown) {
    if (isKubeError(thrown, "not-found")) return { missing: reference, warning: null };
    // A role that lacks a kind costs that object, not the backup of the disks.
    if (!isKubeError(thrown, "forbidden")) throw thrown;
    return { missing: reference, warning: `${keyOf(reference)} is not kept: the operator may not read it; allow it in its ClusterRole` };
  }
}

async function select(client: KubeClient, { selections }: CapturePlan, signal: AbortSignal): Promise<readonly KubeObject[]> {
  const found: KubeObject[] = [];
  for (const { kind, namespace, labelSelector } of selections)
    for await (const page of client.list(objectKind(kind), { namespace, labelSelector, signal })) found.push(...page.items);
  return found;
}
