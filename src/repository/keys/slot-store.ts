import { randomBytes } from "node:crypto";

import { errorText } from "../../lib/errors.ts";
import type { ObjectStore } from "../../objectstore/index.ts";
import { FormatError } from "../format/errors.ts";
import { keyIdOf } from "../format/keys.ts";
import { decodeSlot, encodeSlot, newCost, passphraseKey, type Slot, type SlotWay } from "../format/slot.ts";
import { parseSlotKey, slotAt, SLOTS } from "../layout.ts";
import { tryGet } from "../try-get.ts";
import { Passphrase, type SlotCredential } from "./credential.ts";

const MAX_BYTES = 16 * 1024;
/** A reader looks at no more: trying one costs memory and time, and who can write to the bucket can plant them. */
export const MAX_SLOTS = 32;

/** A slot that cannot be read. */
export interface DamagedSlot {
  readonly id: string;
  readonly error: FormatError;
}

/** Where slots lie. */
export interface SlotPlaces {
  readonly store: ObjectStore;
  /** 16 bytes */
  readonly repositoryId: Uint8Array;
  readonly signal?: AbortSignal;
}

/** The first slots by id, whatever they open. */
export async function readSlots(places: SlotPlaces): Promise<(Slot | DamagedSlot)[]> {
  const { store, signal } = places;
  const found: (Slot | DamagedSlot)[] = [];
  for await (const { key } of store.list(SLOTS, signal === undefined ? {} : { signal })) {
    const id = parseSlotKey(key);
    const slot = id === null ? null : await readSlot(id, places);
    if (slot !== null) found.push(slot);
    if (found.length >= MAX_SLOTS) break;
  }
  return found;
}

/** One slot by its id; null where there is none. */
export async function readSlot(id: string, { store, repositoryId, signal }: SlotPlaces): Promise<Slot | DamagedSlot | null> {
  const at = slotAt(id);
  try {
    const bytes = await tryGet(store, at, { maxBytes: MAX_BYTES, ...(signal === undefined ? {} : { signal }) });
    return bytes === null ? null : decodeSlot(bytes, id, { at, repositoryId });
  } catch (thrown) {
    if (!(thrown instanceof FormatError)) throw thrown;
    return { id, error: thrown };
  }
}

export function isDamagedSlot(slot: Slot | DamagedSlot): slot is DamagedSlot {
  return "error" in slot;
}

/** Context in which a key service wraps the key of a slot. The slot's id follows from that key. */
export function kmsContext(repositoryId: Uint8Array, id: string): string {
  return `thinstream/${Buffer.from(repositoryId).toString("hex")}/${id}`;
}

/** A slot's own way in. */
export async function wayOf(credential: SlotCredential, repositoryId: Uint8Array, signal?: AbortSignal): Promise<NewWay> {
  if (credential instanceof Passphrase) {
    credential.requireNew();
    const scrypt = newCost(randomBytes(32));
    return { way: { kind: "passphrase", scrypt }, wrapping: await passphraseKey(credential.bytes, scrypt) };
  }
  if (credential instanceof Uint8Array) return { way: { kind: "key-file" }, wrapping: Buffer.from(credential) };
  const wrapping = randomBytes(32);
  const context = kmsContext(repositoryId, keyIdOf(wrapping, repositoryId));
  const wrapped = Buffer.from(await credential.wrap(wrapping, context, signal));
  return { way: { kind: "kms", provider: credential.provider, wrapped }, wrapping };
}

export interface NewWay {
  readonly way: SlotWay;
  /** 32 bytes, to be overwritten by who asked for them */
  readonly wrapping: Buffer;
}

export interface NewSlot {
  readonly credential: SlotCredential;
  readonly label: string;
  /** the repository key to put into it */
  readonly key: Uint8Array;
}

/** Creates a slot and reads it back. Rejects `already-exists` of the store. @returns its id */
export async function writeSlot({ store, repositoryId, signal }: SlotPlaces, { credential, label, key }: NewSlot): Promise<string> {
  const options = signal === undefined ? {} : { signal };
  const { way, wrapping } = await wayOf(credential, repositoryId, signal);
  try {
    const id = keyIdOf(wrapping, repositoryId);
    const created = (await store.now(options)).toISOString();
    const bytes = encodeSlot({ label, created, opens: keyIdOf(key, repositoryId), way }, repositoryId, { wrapping, key });
    await store.putIfAbsent(slotAt(id), bytes, options);
    if (!bytes.equals(await store.get(slotAt(id), { ...options, maxBytes: MAX_BYTES })))
      throw new FormatError("damaged", `${store.url} did not give back what was put into it: ${slotAt(id)}`);
    return id;
  } finally {
    wrapping.fill(0);
  }
}

/** The sentence of a slot that cannot be read. */
export function whyDamaged({ id, error }: DamagedSlot): string {
  return `${slotAt(id)}: ${errorText(error)}`;
}
