import { FormatError } from "../format/errors.ts";
import { wrongKey } from "../format/config.ts";
import { keyIdOf } from "../format/keys.ts";
import { openSlot, passphraseKey, type Slot } from "../format/slot.ts";
import { type KeyWrap, Passphrase, type SlotCredential } from "./credential.ts";
import { type DamagedSlot, isDamagedSlot, kmsContext, readSlot, readSlots, type SlotPlaces } from "./slot-store.ts";

/** The repository key, and the slot it came from; null: it was given itself. */
export interface Unlocked {
  /** a copy, to be overwritten by who asked for it */
  readonly key: Buffer;
  readonly slot: string | null;
}

export interface UnlockPlaces extends SlotPlaces {
  /** id of the repository key of now */
  readonly keyId: string;
}

/** Gets at the repository key. Rejects `wrong-key`, `wrong-passphrase`, `tampered` and `damaged`. */
export async function unlock(credential: SlotCredential, places: UnlockPlaces): Promise<Unlocked> {
  if (credential instanceof Passphrase) return await byPassphrase(credential, places);
  if (!(credential instanceof Uint8Array)) return await byKeyWrap(credential, places);
  const { keyId, repositoryId } = places;
  const id = keyIdOf(credential, repositoryId);
  if (id === keyId) return { key: Buffer.from(credential), slot: null };
  const slot = await readSlot(id, places);
  if (slot === null) throw wrongKey();
  if (isDamagedSlot(slot)) throw slot.error;
  if (slot.opens !== keyId) throw stale(slot);
  return { key: openSlot(slot, credential, repositoryId), slot: id };
}

async function byPassphrase(passphrase: Passphrase, places: UnlockPlaces): Promise<Unlocked> {
  const { usable, damagedOnes } = await candidates("passphrase", places);
  for (const slot of usable) {
    places.signal?.throwIfAborted();
    if (slot.way.kind !== "passphrase") continue;
    const wrapping = await passphraseKey(passphrase.bytes, slot.way.scrypt);
    try {
      if (keyIdOf(wrapping, places.repositoryId) === slot.id) return { key: openSlot(slot, wrapping, places.repositoryId), slot: slot.id };
    } finally {
      wrapping.fill(0);
    }
  }
  if (usable.length === 0) throw noneOf("passphrase", damagedOnes);
  throw new FormatError(
    "wrong-passphrase",
    `The passphrase is wrong: it opens none of the repository's ${usable.length}${orDamaged(damagedOnes)}`,
    {
      hint: "Try another passphrase, or a key file",
    },
  );
}

async function byKeyWrap(service: KeyWrap, places: UnlockPlaces): Promise<Unlocked> {
  const { usable, damagedOnes } = await candidates("kms", places);
  const mine = usable.filter(({ way }) => way.kind === "kms" && way.provider === service.provider);
  let refusal: FormatError | null = null;
  for (const slot of mine) {
    if (slot.way.kind !== "kms") continue;
    const wrapping = await unwrapped(service, slot, places).catch((thrown: unknown) => {
      if (!(thrown instanceof FormatError)) throw thrown;
      refusal = thrown;
      return null;
    });
    if (wrapping === null || keyIdOf(wrapping, places.repositoryId) !== slot.id) continue;
    const key = openSlot(slot, wrapping, places.repositoryId);
    wrapping.fill(0);
    return { key, slot: slot.id };
  }
  if (mine.length === 0) throw noneOf(`key service ${service.provider}`, damagedOnes);
  throw new FormatError(
    "wrong-key",
    `The key service ${service.provider} opens none of its ${mine.length} slots${orDamaged(damagedOnes)}`,
    {
      cause: refusal,
    },
  );
}

async function unwrapped(service: KeyWrap, { id, way }: Slot, { repositoryId, signal }: UnlockPlaces): Promise<Uint8Array | null> {
  if (way.kind !== "kms") return null;
  const wrapping = await service.unwrap(way.wrapped, kmsContext(repositoryId, id), signal);
  return wrapping.length === 32 ? wrapping : null;
}

async function candidates(kind: "passphrase" | "kms", places: UnlockPlaces): Promise<{ usable: Slot[]; damagedOnes: DamagedSlot[] }> {
  const slots = await readSlots(places);
  const whole = slots.filter((slot): slot is Slot => !isDamagedSlot(slot));
  return {
    usable: whole.filter(({ way, opens }) => way.kind === kind && opens === places.keyId),
    damagedOnes: slots.filter(isDamagedSlot),
  };
}

function noneOf(what: string, damagedOnes: readonly DamagedSlot[]): FormatError {
  const [first] = damagedOnes;
  // A damaged slot does not say what it was for.
  if (first !== undefined)
    return new FormatError("damaged", `The repository has no ${what} that can be read${orDamaged(damagedOnes)}`, {
      cause: first.error,
      hint: "Bring the slot back from a copy or an older version of the bucket, or open the repository another way",
    });
  return new FormatError("wrong-key", `No ${what} opens this repository`, {
    hint: "Give the key file that `thinstream init` made; `thinstream key list` says what else there is",
  });
}

function orDamaged(slots: readonly DamagedSlot[]): string {
  return slots.length === 0 ? "" : `; damaged, and perhaps the one: ${slots.map(({ id }) => `slots/${id}`).join(", ")}`;
}

function stale({ at }: Slot): FormatError {
  return new FormatError("wrong-key", `This key file opened the repository until its key was replaced: ${at} is of an earlier one`, {
    hint: "Ask who rotated the key to let it in again with `thinstream key add`",
  });
}
