import { damaged, FormatError } from "./errors.ts";
import { asHex, asTime, type JsonObject } from "./json.ts";
import { derive, keyIdOf } from "./keys.ts";
import { decodeSummed, encodeSummed, openSecret, sealedLength, sealSecret, tampered } from "./sealed-json.ts";

const FORMAT = "thinstream-rotation";
const KEY = 32;
const KEY_ID = 8;

/** What a rotation holds for who has its new key: 32 bytes each, FORMAT.md §4.2. */
export interface RotationSecrets {
  /** the repository's first key: proves its config and names its domains */
  readonly first: Buffer;
  /** the key before */
  readonly previous: Buffer;
  readonly configMac: Buffer;
}

export interface Rotation {
  readonly at: string;
  readonly number: number;
  readonly time: string;
  /** id of the new key */
  readonly keyId: string;
  readonly clear: JsonObject;
  readonly sealed: Buffer;
}

/** @param key the new repository key */
export function encodeRotation(facts: RotationFacts, key: Uint8Array, { first, previous, configMac }: RotationSecrets): Buffer {
  const { number, time, repositoryId } = facts;
  const repository = Buffer.from(repositoryId).toString("hex");
  const clear = { format: FORMAT, version: 1, repository, number, time, keyId: keyIdOf(key, repositoryId) };
  const under = derive(key, repositoryId, "thinstream/1/rotation");
  const secrets = Buffer.concat([first, previous, configMac]);
  const sealed = sealSecret(secrets, under, clear);
  under.fill(0);
  secrets.fill(0);
  return encodeSummed({ ...clear, sealed });
}

export interface RotationFacts {
  readonly number: number;
  readonly time: string;
  readonly repositoryId: Uint8Array;
}

/** Reads a rotation without any key. Rejects `damaged`. */
export function decodeRotation(bytes: Uint8Array, number: number, { at, repositoryId }: RotationPlace): Rotation {
  const { sealed, ...clear } = decodeSummed(bytes, { at, format: FORMAT, repositoryId });
  if (clear["number"] !== number) throw damaged(`${at} is the rotation of another place`);
  return {
    at,
    number,
    time: asTime(clear["time"], `${at}: time`),
    keyId: asHex(clear["keyId"], `${at}: keyId`, KEY_ID).toString("hex"),
    clear,
    sealed: asHex(sealed, `${at}: sealed`, sealedLength(3 * KEY)),
  };
}

interface RotationPlace {
  readonly at: string;
  readonly repositoryId: Uint8Array;
}

/** What a rotation holds. Rejects `wrong-key` for another key than its own, `tampered`. */
export function openRotation(rotation: Rotation, key: Uint8Array, repositoryId: Uint8Array): RotationSecrets {
  if (keyIdOf(key, repositoryId) !== rotation.keyId)
    throw new FormatError("wrong-key", `This key is not the one that ${rotation.at} brought in`);
  const under = derive(key, repositoryId, "thinstream/1/rotation");
  const secrets = openSecret(rotation.sealed, under, rotation.clear);
  under.fill(0);
  if (secrets === null) throw tampered(rotation.at);
  const [first, previous, configMac] = [0, KEY, 2 * KEY].map((from) => secrets.subarray(from, from + KEY)) as [Buffer, Buffer, Buffer];
  return { first, previous, configMac };
}
