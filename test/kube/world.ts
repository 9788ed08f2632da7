import type { KubeClient, KubeObject, ResourceKind } from "../../src/kube/index.ts";
import { connectKube } from "../../src/kube/index.ts";
import { ControlPlane } from "../cluster/index.ts";

/** A kind of the tests' own, with a status. */
export interface Widget extends KubeObject {
  readonly spec: { readonly size: number; readonly color?: string; readonly tags?: readonly string[] };
  readonly status?: { readonly seen?: number; readonly by?: Readonly<Record<string, number>>; readonly note?: string };
}

export const widgets: ResourceKind<Widget> = {
  group: "test.thinstream.dev",
  version: "v1",
  plural: "widgets",
  kind: "Widget",
  namespaced: true,
};

export const namespaces: ResourceKind = { group: "", version: "v1", plural: "namespaces", kind: "Namespace", namespaced: false };

const crds: ResourceKind<KubeObject & { readonly status?: { readonly conditions?: readonly { type: string; status: string }[] } }> = {
  group: "apiextensions.k8s.io",
  version: "v1",
  plural: "customresourcedefinitions",
  kind: "CustomResourceDefinition",
  namespaced: false,
};

const widgetSchema = {
  type: "object",
  properties: {
    spec: {
      type: "object",
      required: ["size"],
      properties: {
        size: { type: "integer", minimum: 0, maximum: 100 },
        color: { type: "string", enum: ["red", "green"] },
        tags: { type: "array", items: { type: "string" } },
      },
    },
    status: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
  },
};

/** A control plane that serves widgets, and a client of its administrator. */
export async function startWorld(): Promise<{ readonly plane: ControlPlane; readonly client: KubeClient }> {
  const plane = await ControlPlane.start();
  const client = await connectKube({ kubeconfig: plane.admin.kubeconfig, qps: 1000, burst: 1000 });
  await serveWidgets(client);
  return { plane, client };
}

/** Makes the API server serve widgets. */
export async function serveWidgets(client: KubeClient): Promise<void> {
  await client.apply(crds, {
    metadata: { name: "widgets.test.thinstream.dev" },
    spec: {
      group: "test.thinstream.dev",
      scope: "Namespaced",
      names: { plural: "widgets", singular: "widget", kind: "Widget" },
      versions: [{ name: "v1", served: true, storage: true, subresources: { status: {} }, schema: { openAPIV3Schema: widgetSchema } }],
    },
  });
  await eventually(async () => {
    const { status } = await client.get(crds, { name: "widgets.test.thinstream.dev" });
    return status?.conditions?.some(({ type, status: is }) => type === "Established" && is === "True") === true;
  });
  // Established is said a little before it is served.
  await eventually(async () => {
    const { value } = await client.list(widgets).next();
    return value !== undefined;
  });
}

export function widget(name: string, size: number = 1, namespace: string = "default"): Omit<Widget, "apiVersion" | "kind"> {
  return { metadata: { name, namespace }, spec: { size } };
}

export async function makeNamespace(client: KubeClient, name: string): Promise<string> {
  await client.apply(namespaces, { metadata: { name } });
  return name;
}

/** Waits until `look` says true; an error counts as not yet. */
export async function eventually(look: () => Promise<boolean> | boolean, ms: number = 30_000): Promise<void> {
  const deadline = Date.now() + ms;
  for (;;) {
    let last: unknown = "it is not so yet";
    try {
      if (await look()) return;
    } catch (thrown) {
      last = thrown;
    }
    if (Date.now() > deadline) throw new Error(`waited for ${ms} ms in vain: ${look.toString()}`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** What a call is rejected with. */
export async function failureOf(work: Promise<unknown>): Promise<unknown> {
  const outcome = await work.then(
    (value) => ({ value }),
    (thrown: unknown) => ({ thrown }),
  );
  if ("thrown" in outcome) return outcome.thrown;
  throw new Error(`it did not fail but gave ${JSON.stringify(outcome.value)}`);
}
