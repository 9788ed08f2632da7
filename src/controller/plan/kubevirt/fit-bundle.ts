import type { Reference } from "./capture.ts";
import type { KubeObject } from "./bundle.ts";

/** Bytes that a machine's objects may have together: they travel to the agent in a Secret, beside its order. */
const MOST = 900_000;

/** The objects that there is room for: the largest ConfigMaps and Secrets go first, for a machine can be made without them. */
export function fitBundle(
  objects: readonly KubeObject[],
  most: number = MOST,
): { readonly objects: readonly KubeObject[]; readonly leftOut: readonly Reference[] } {
  const sized = objects.map((object) => ({ object, bytes: Buffer.byteLength(JSON.stringify(object)) }));
  let total = sized.reduce((sum, { bytes }) => sum + bytes, 0);
  const dropped = new Set<KubeObject>();
  for (const { object, bytes } of sized.toSorted((a, b) => b.bytes - a.bytes)) {
    if (total <= most) break;
    if (object.kind !== "Secret" && object.kind !== "ConfigMap") continue;
    dropped.add(object);
    total -= bytes;
  }
  return {
    objects: objects.filter((object) => !dropped.has(object)),
    leftOut: [...dropped].map(({ apiVersion, kind, metadata: { namespace = null, name = "" } }) => ({ apiVersion, kind, namespace, name })),
  };
}
