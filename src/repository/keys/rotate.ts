import { errorText } from "../../lib/errors.ts";
import { type ObjectStore, requireConditionalWrites, StoreError } from "../../objectstore/index.ts";
import { openDomainKey, sealDomainKey } from "../domain-key.ts";
import { readTombstone, type Tombstone } from "../domains/tombstone.ts";
import { RepositoryError } from "../errors.ts";
import { FormatError } from "../format/errors.ts";
import { keyIdOf } from "../format/keys.ts";
import { decodeRotation, encodeRotation } from "../format/rotation.ts";
import { Holds } from "../holds.ts";
import { KEYS, parseDomainKey, rotationAt, slotAt } from "../layout.ts";
import { readConfig } from "../read-config.ts";
import { tryGet } from "../try-get.ts";
import type { KeyWrap, Passphrase } from "./credential.ts";
import { RepositoryKey } from "./repository-key.ts";
import { MAX_ROTATIONS } from "./rotation-store.ts";
import { isDamagedSlot, readSlots, writeSlot } from "./slot-store.ts";

const MAX_KEY_DOCUMENT = 4096;
const MAX_ROTATION = 4096;
const PUT_ATTEMPTS = 3;

/** The key that is to come. */
export interface NewKey {
  /** 32 random bytes that their owner has kept, or that only `slot` will have */
  readonly key: Uint8Array;
  /** a way in for it that is there before the key counts */
  readonly slot: { readonly credential: Passphrase | KeyWrap; readonly label: string } | null;
}

/** What a rotation did. */
export interface Replaced {
  /** domain keys that were sealed anew */
  readonly domains: number;
  /** ids of slots that were removed since they held an earlier key */
  readonly removedSlots: readonly string[];
  /** ids of such slots that the store did not let go */
  readonly keptSlots: readonly string[];
}

interface Places {
  readonly store: ObjectStore;
  readonly signal: AbortSignal;
}

/**
 * Puts a new key in the place of `old`, FORMAT.md §4.2. It counts as soon as the rotation is created. What fails before leaves the old one; what fails
 * after leaves the new one and rejects `rotation-unfinished`, and `endRotation` does the rest. `rotation-lost`: somebody else's came first;
 * `no-conditional-writes`: the store would let two overwrite each other;
 * `rotation-unknown`: the store does not say which of the two keys it is.
 */
export async function replaceKey(old: RepositoryKey, next: NewKey, places: Places): Promise<{ key: RepositoryKey; report: Replaced }> {
  const { id } = old.config;
  const number = (old.history.newest?.number ?? 0) + 1;
  if (number > MAX_ROTATIONS)
    throw new RepositoryError("invalid", `The key was replaced ${MAX_ROTATIONS} times already: make a new repository`);
  // Of two rotations at once the one that loses is to know it: else it would seal domain keys under a key that nobody finds.
  await requireConditionalWrites(places.store, places);
  await endRotation(old, places);
  const slot = next.slot === null ? null : await writeSlot({ ...places, repositoryId: id }, { ...next.slot, key: next.key });
  const time = (await places.store.now(places)).toISOString();
  const secrets = { first: old.first, previous: old.current, configMac: old.configMac };
  const bytes = encodeRotation({ number, time, repositoryId: id }, next.key, secrets);
  try {
    await switchTo(bytes, { number, repositoryId: id }, places);
  } catch (thrown) {
    const open = thrown instanceof RepositoryError && thrown.code === "rotation-unknown";
    if (!open && slot !== null) await places.store.delete(slotAt(slot), places).catch(() => undefined);
    throw thrown;
  }
  return await afterSwitch(next.key, places);
}

async function afterSwitch(newKey: Uint8Array, places: Places): Promise<{ key: RepositoryKey; report: Replaced }> {
  try {
    const key = await RepositoryKey.find(await readConfig(places.store, places), newKey, places);
    return { key, report: await endRotation(key, places) };
  } catch (cause) {
    throw new RepositoryError(
      "rotation-unfinished",
      `The new key opens the repository now, but not everything was sealed anew: ${errorText(cause)}`,
      {
        cause,
        hint: "Keep the new key, and do the rest with `thinstream key rotate --finish`",
      },
    );
  }
}

/** The switch. An answer that was lost is asked for again: whether the new key counts must not stay open. */
async function switchTo(
  bytes: Buffer,
  { number, repositoryId }: { readonly number: number; readonly repositoryId: Uint8Array },
  places: Places,
): Promise<void> {
  const { store } = places;
  const at = rotationAt(number);
  const refused = await store.putIfAbsent(at, bytes, places).then(
    () => null,
    (reason: unknown) => ({ reason }),
  );
  const unknown = (cause: unknown): RepositoryError =>
    new RepositoryError("rotation-unknown", `Whether the new key has taken the old one's place is not known: ${at} cannot be read`, {
      cause,
      hint: "Keep both keys, and try one after the other when the store answers: one of them opens the repository",
    });
  const there = await tryGet(store, at, { ...places, maxBytes: MAX_ROTATION }).catch((cause: unknown) => {
    throw unknown(refused?.reason ?? cause);
  });
  if (there === null) throw refused?.reason ?? unknown(null);
  if (bytes.equals(there)) return;
  try {
    decodeRotation(there, number, { at, repositoryId });
  } catch (cause) {
    throw unknown(cause);
  }
  throw new RepositoryError(
    "rotation-lost",
    "Somebody else replaced the repository's key at the same time; this rotation has changed nothing",
    {
      cause: refused?.reason,
      hint: "Ask who rotated it for the new key",
    },
  );
}

/** Seals under the key of now what an earlier one still seals, and removes slots of earlier ones. Does nothing where nothing is left to do. */
export async function endRotation(key: RepositoryKey, places: Places): Promise<Replaced> {
  if (key.history.newest === null) return { domains: 0, removedSlots: [], keptSlots: [] };
  const domains = await sealAnew(key, places);
  const earlier = await earlierIds(key);
  const removedSlots: string[] = [];
  const keptSlots: string[] = [];
  for (const slot of await readSlots({ ...places, repositoryId: key.config.id })) {
    // Of a key that never was the repository's: that of another rotation, perhaps, which is not done yet.
    if (isDamagedSlot(slot) || !earlier.has(slot.opens)) continue;
    ((await tryRemove(slot.id, places)) ? removedSlots : keptSlots).push(slot.id);
  }
  return { domains, removedSlots, keptSlots };
}

/** How many domain keys an interrupted rotation has left under an earlier key. */
export async function leftToSeal(key: RepositoryKey, places: Places): Promise<number> {
  let count = 0;
  for await (const { key: at } of places.store.list(KEYS, places)) {
    const { domainKey, current } = await openDomainKey(await places.store.get(at, { ...places, maxBytes: MAX_KEY_DOCUMENT }), at, key);
    domainKey.fill(0);
    if (!current) count++;
  }
  return count;
}

async function sealAnew(key: RepositoryKey, places: Places): Promise<number> {
  const { store } = places;
  let count = 0;
  for await (const { key: at } of store.list(KEYS, places)) {
    // What is to be destroyed is not sealed once more.
    if ((await tombstoneOf(at, key, places)) !== null) continue;
    const { domainKey, current } = await openDomainKey(await store.get(at, { ...places, maxBytes: MAX_KEY_DOCUMENT }), at, key);
    try {
      if (current) continue;
      const sealed = sealDomainKey(domainKey, at, key);
      await putProved(at, sealed, places);
      count++;
      // Whoever destroyed it meanwhile has written that down before the key went, and it may be back now. Where a point is held, that was refused.
      const tombstone = await tombstoneOf(at, key, places);
      if (tombstone !== null && (await new Holds(store).of(tombstone.machines, places.signal)).length === 0) await store.delete(at, places);
    } finally {
      domainKey.fill(0);
    }
  }
  return count;
}

async function tombstoneOf(at: string, key: RepositoryKey, places: Places): Promise<Tombstone | null> {
  const domain = parseDomainKey(at);
  return domain === null ? null : await readTombstone(domain, key, places).catch(unlessForged);
}

function unlessForged(thrown: unknown): null {
  if (thrown instanceof FormatError) return null;
  throw thrown;
}

/** The key is lost with its only copy: nothing goes on before it was read back. */
async function putProved(at: string, sealed: Buffer, { store, signal }: Places): Promise<void> {
  for (let attempt = 1; attempt <= PUT_ATTEMPTS; attempt++) {
    await store.put(at, sealed, { signal });
    if (sealed.equals(await store.get(at, { signal, maxBytes: MAX_KEY_DOCUMENT }))) return;
  }
  throw new FormatError("damaged", `${store.url} did not give back what was put into it: ${at}`, {
    hint: "Bring the older version of the object back: the store is not to be trusted with it",
  });
}

async function earlierIds(key: RepositoryKey): Promise<ReadonlySet<string>> {
  const ids = new Set<string>();
  for await (const earlier of key.earlier()) ids.add(keyIdOf(earlier, key.config.id));
  return ids;
}

/** Writers' credentials may not delete, and a rotation is whole without it: what such a slot holds opens nothing any more. */
async function tryRemove(id: string, places: Places): Promise<boolean> {
  try {
    await places.store.delete(slotAt(id), places);
    return true;
  } catch (thrown) {
    if (thrown instanceof StoreError && thrown.code === "access-denied") return false;
    throw thrown;
  }
}
