import { type ObjectStore, StoreError } from "../objectstore/index.ts";
import { RepositoryError } from "./errors.ts";
import { type ConfigClaim, parseConfig } from "./format/config.ts";
import { CONFIG } from "./layout.ts";

const MAX_CONFIG = 64 * 1024;

/** The config of the repository in a store, not yet proved by a key. Rejects `not-a-repository`. */
export async function readConfig(store: ObjectStore, options: { readonly signal?: AbortSignal }): Promise<ConfigClaim> {
  try {
    return parseConfig(await store.get(CONFIG, { ...options, maxBytes: MAX_CONFIG }));
  } catch (cause) {
    if (!(cause instanceof StoreError) || cause.code !== "not-found") throw cause;
    throw new RepositoryError("not-a-repository", `There is no repository at ${store.url}`, {
      cause,
      hint: "Make one with `thinstream init`, or correct the URL",
    });
  }
}
