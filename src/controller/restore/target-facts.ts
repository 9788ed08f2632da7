import { isKubeError, type KubeClient, type KubeObject, type ResourceKind } from "../../kube/index.ts";
import { claims, type Loose } from "../kinds.ts";
import { gatherFacts } from "../kubevirt/gather.ts";
import { objectKind } from "../kubevirt/object-kinds.ts";
import { type Bundle, findObject, keyOfObject } from "../plan/kubevirt/bundle.ts";
import type { TargetFacts } from "../plan/kubevirt/restore-request.ts";

const storageClasses: ResourceKind<Loose> = {
  group: "storage.k8s.io",
  version: "v1",
  plural: "storageclasses",
  kind: "StorageClass",
  namespaced: false,
};
const DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class";

interface Place {
  readonly namespace: string;
  readonly name: string;
}

/** What the cluster has where the machine is to be, asked for anew. */
export async function gatherTarget(client: KubeClient, place: Place, bundle: Bundle, signal: AbortSignal): Promise<TargetFacts> {
  const { namespace } = place;
  const [{ vm, vmi, pods }, claimsThere, classes, hasCdi, existing, sourceExists] = await Promise.all([
    gatherFacts(client, place, signal),
    all(client, claims, { namespace, signal }),
    all(client, storageClasses, { signal }),
    isServed(client, objectKind("DataVolume"), { namespace, signal }),
    existingOf(client, place, bundle, signal),
    isSourceThere(client, place, bundle, signal),
  ]);
  return {
    vm,
    vmi,
    pods,
    claims: claimsThere,
    storageClasses: classes.map(({ metadata }) => ({ name: metadata.name, isDefault: metadata.annotations?.[DEFAULT_CLASS] === "true" })),
    existing,
    sourceExists,
    hasCdi,
  };
}

/** Which of the objects that the point lacks, or does not restore, are there all the same. */
async function existingOf(client: KubeClient, place: Place, bundle: Bundle, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const networks = bundle.objects.filter(({ kind }) => kind === "NetworkAttachmentDefinition").map(keyOfObject);
  const wanted = [...networks, ...bundle.missing].filter((key) =>
    /^(?:Secret|ConfigMap|ServiceAccount|NetworkAttachmentDefinition)\//.test(key),
  );
  const found = new Set<string>();
  for (const key of new Set(wanted)) {
    const [kind = "", from = "", name = ""] = key.split("/");
    const namespace = from === bundle.namespace ? place.namespace : from;
    if ((await find(client, objectKind(kind), { ref: { namespace, name }, signal })) !== null) found.add(`${kind}/${namespace}/${name}`);
  }
  return found;
}

/** Whether the machine of the point lives on beside the target. */
async function isSourceThere(client: KubeClient, place: Place, bundle: Bundle, signal: AbortSignal): Promise<boolean> {
  const { namespace, name } = bundle;
  if (place.namespace === namespace && place.name === name) return false;
  const uid = findObject(bundle, "VirtualMachine", name)?.metadata.uid;
  const there = await find(client, objectKind("VirtualMachine"), { ref: { namespace, name }, signal });
  return there !== null && there.metadata.uid === uid;
}

/** An object, or null where it, or its kind, is not there. */
export async function find<T extends KubeObject>(
  client: KubeClient,
  kind: ResourceKind<T>,
  { ref, signal }: { readonly ref: { readonly namespace?: string; readonly name: string }; readonly signal: AbortSignal },
): Promise<T | null> {
  try {
    return await client.get(kind, ref, { signal });
  } catch (thrown) {
    if (isKubeError(thrown, "not-found")) return null;
    throw thrown;
  }
}

async function all<T extends KubeObject>(
  client: KubeClient,
  kind: ResourceKind<T>,
  options: { readonly namespace?: string; readonly signal: AbortSignal },
): Promise<readonly T[]> {
  const found: T[] = [];
  for await (const page of client.list(kind, options)) found.push(...page.items);
  return found;
}

async function isServed(
  client: KubeClient,
  kind: ResourceKind,
  options: { readonly namespace: string; readonly signal: AbortSignal },
): Promise<boolean> {
  try {
    for await (const _ of client.list(kind, { ...options, limit: 1 })) break;
    return true;
  } catch (thrown) {
    if (isKubeError(thrown, "not-found")) return false;
    throw thrown;
  }
}
