import { systemClock } from "../lib/clock.ts";
import { backoffMs } from "./backoff.ts";
import type { KubeClient } from "./client.ts";
import { isKubeError } from "./errors.ts";
import { mergePatch } from "./merge-patch.ts";
import type { KubeObject, ResourceKind } from "./object.ts";
import type { CallOptions } from "./requests.ts";

/** An object with a status sub-resource. */
export interface WithStatus extends KubeObject {
  readonly status?: object;
}

/** A storm of writers lets one through at a time: with this many tries and the waits between them, some twenty seconds. */
const MAX_TRIES = 30;

/**
 * Brings an object's status to what `next` makes of the object, and gives the object as it is then. Nothing is written where nothing
 * changed. `object` may come from a cache: the write holds only for that very version, and where somebody was faster, `next` is asked again
 * with the object as the server has it. A missing `status` and an empty one are the same.
 */
export async function applyStatus<T extends WithStatus>(
  client: KubeClient,
  kind: ResourceKind<T>,
  object: T,
  { next, ...options }: CallOptions & { readonly next: (object: T) => T["status"] },
): Promise<T> {
  let current = object;
  for (let tries = 1; ; tries += 1) {
    const patch = mergePatch(current.status ?? {}, next(current) ?? {});
    if (patch === undefined) return current;
    const { resourceVersion, uid } = current.metadata;
    try {
      return await client.patch(
        kind,
        current.metadata,
        { metadata: { resourceVersion, uid }, status: patch },
        { ...options, subresource: "status" },
      );
    } catch (thrown) {
      if (!isKubeError(thrown, "conflict") || tries >= MAX_TRIES) throw thrown;
    }
    await systemClock.sleep(backoffMs(tries, { baseMs: 10, maxMs: 1000 }), options.signal);
    const fresh = await client.get(kind, current.metadata, options);
    // Another object of the same name: what was to be said is of one that is gone.
    if (fresh.metadata.uid !== object.metadata.uid) return fresh;
    current = fresh;
  }
}
