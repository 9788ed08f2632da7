import { type CustomResourceDefinition, customResourceDefinition, definitionAnnotation, kinds } from "../../api/index.ts";
import { connectKube, isKubeError, type KubeClient, type KubeObject, type ResourceKind } from "../../kube/index.ts";
import { systemClock } from "../../lib/clock.ts";
import type { Context, Outcome } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";

export interface ApplyCrdsFlags {
  readonly kubeconfig?: string;
}

/** What is read of a CustomResourceDefinition that is there. */
interface Definition extends KubeObject {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

const definitions: ResourceKind<Definition> = {
  group: "apiextensions.k8s.io",
  version: "v1",
  plural: "customresourcedefinitions",
  kind: "CustomResourceDefinition",
  namespaced: false,
};

/** How often a new definition is asked whether it is served yet: half a minute in all. */
const LOOKS = 120;
const LOOK_MS = 250;

/** `thinstream apply-crds`: what Helm does not do with `crds/` when a release is upgraded. May be repeated at any time. */
export async function applyCrds({ kubeconfig }: ApplyCrdsFlags, { signal }: Context): Promise<Outcome> {
  const client = await connectKube(kubeconfig === undefined ? {} : { kubeconfig });
  try {
    const changed: string[] = [];
    for (const kind of kinds) {
      const definition = customResourceDefinition(kind);
      if (await bring(client, definition, signal)) changed.push(definition.metadata.name);
    }
    for (const name of changed) await untilServed(client, name, signal);
    const text =
      changed.length === 0
        ? "Every custom resource definition is this version's already"
        : `Brought to this version: ${changed.join(", ")}`;
    return { json: { changed }, text, exitCode: ExitCode.ok };
  } finally {
    client.close();
  }
}

/** Brings one definition to this version's. Resolves with whether anything changed. */
async function bring(client: KubeClient, { metadata, spec }: CustomResourceDefinition, signal: AbortSignal): Promise<boolean> {
  const there = await definitionNow(client, metadata.name, signal);
  if (there?.metadata.annotations?.[definitionAnnotation] === metadata.annotations[definitionAnnotation]) return false;
  // In Helm's name: Helm 4 applies crds/ in that when it installs, and whatever is another's would be a conflict it does not solve.
  await client.apply(definitions, { metadata, spec }, { fieldManager: "helm", force: true, signal });
  return true;
}

async function definitionNow(client: KubeClient, name: string, signal: AbortSignal): Promise<Definition | null> {
  try {
    return await client.get(definitions, { name }, { signal });
  } catch (thrown) {
    if (isKubeError(thrown, "not-found")) return null;
    throw thrown;
  }
}

/** Whoever comes next may make objects of it. It is no failure that a server takes long: the next one finds out. */
async function untilServed(client: KubeClient, name: string, signal: AbortSignal): Promise<void> {
  for (let look = 0; look < LOOKS; look += 1) {
    const { status } = await client.get(definitions, { name }, { signal });
    if (status?.conditions?.some((one) => one.type === "Established" && one.status === "True") === true) return;
    await systemClock.sleep(LOOK_MS, signal);
  }
}
