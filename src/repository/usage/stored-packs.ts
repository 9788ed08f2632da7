import { mapConcurrently } from "../../lib/concurrency.ts";
import type { ObjectStore } from "../../objectstore/index.ts";
import { PackNumbers } from "../format/pack-numbers.ts";
import { packsOf, parsePackKey } from "../layout.ts";
import { isOld } from "../rules.ts";

/** After so many packs the rest is listed in several lists at once. */
const ONE_LIST = 20_000;
const PARALLEL = 8;

/** What lies in the store, without a look into it. */
export interface StoredPacks {
  /** bytes of each pack that is old enough to be given up */
  readonly old: PackNumbers;
  /** bytes of each pack that is not */
  readonly young: PackNumbers;
  readonly count: number;
  readonly bytes: number;
}

/** Lists the packs of a domain. */
export async function listPacks(
  store: ObjectStore,
  { domain, at, signal }: { readonly domain: string; readonly at: Date; readonly signal: AbortSignal },
): Promise<StoredPacks> {
  const found = { old: new PackNumbers(), young: new PackNumbers(), count: 0, bytes: 0 };
  const take = ({ key, size, modified }: { readonly key: string; readonly size: number; readonly modified: Date }): void => {
    const pack = parsePackKey(key);
    // What no writer has put there is not ours to remove. An empty one is no pack either, yet a writer's broken upload may leave it.
    if (pack === null) return;
    (isOld(modified.getTime(), at.getTime()) ? found.old : found.young).set(pack, Math.max(1, size));
    found.count += 1;
    found.bytes += size;
  };
  await takePacks(packsOf(domain), (prefix) => store.list(prefix, { signal }), take);
  return found;
}

/** Hands over all of what lists of the packs below `prefix` have: in one list, or several at once where they are many. */
export async function takePacks<T extends { readonly key: string }>(
  prefix: string,
  list: (prefix: string) => AsyncIterable<T>,
  take: (one: T) => void,
): Promise<void> {
  const rest = await takeFirst(prefix, list, take);
  await mapConcurrently(rest, PARALLEL, async (part) => {
    for await (const one of list(part)) take(one);
  });
}

/** Lists in order until there are many; resolves with the prefixes that are left. */
async function takeFirst<T extends { readonly key: string }>(
  prefix: string,
  list: (prefix: string) => AsyncIterable<T>,
  take: (one: T) => void,
): Promise<string[]> {
  let count = 0;
  let last = "";
  for await (const one of list(prefix)) {
    const part = one.key.slice(0, prefix.length + 2);
    if (count >= ONE_LIST && part !== last) return partsFrom(prefix, part);
    take(one);
    count += 1;
    last = part;
  }
  return [];
}

function partsFrom(prefix: string, first: string): string[] {
  return Array.from({ length: 256 }, (_, i) => `${prefix}${i.toString(16).padStart(2, "0")}`).filter((part) => part >= first);
}
