import { createHmac, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

import { damaged, FormatError } from "./errors.ts";
import { asCount, asHex, asObject, asOneOf, asString, asTime, canonicalJson, type JsonObject } from "./json.ts";
import { derive, keyIdOf } from "./keys.ts";
import { decodeSummed, encodeSummed, openSecret, sealedLength, sealSecret, tampered } from "./sealed-json.ts";

const FORMAT = "thinstream-slot";
const MAX_KMS = 4096;
const KEY_ID = 8;
const LABEL = /^[ -~]{0,64}$/;
const stretch = promisify<Uint8Array, Uint8Array, number, object, Buffer>(scrypt);

/** What a passphrase costs to try. */
export interface ScryptCost {
  /** 32 bytes */
  readonly salt: Buffer;
  /** N = 2^logN */
  readonly logN: number;
  readonly r: number;
  readonly p: number;
}

/** Where the key comes from that a slot wraps the repository key under. */
export type SlotWay =
  | { readonly kind: "passphrase"; readonly scrypt: ScryptCost }
  | { readonly kind: "key-file" }
  | { readonly kind: "kms"; readonly provider: string; readonly wrapped: Buffer };

/** A slot's fields in the clear, FORMAT.md §4.1. */
export interface SlotFacts {
  /** 16 hex digits */
  readonly id: string;
  readonly label: string;
  readonly created: string;
  /** id of the repository key inside */
  readonly opens: string;
  readonly way: SlotWay;
}

export interface Slot extends SlotFacts {
  readonly at: string;
  readonly clear: JsonObject;
  readonly sealed: Buffer;
  readonly mac: Buffer;
}

/** What new slots cost: 128 MiB and about half a second a try. */
export function newCost(salt: Buffer): ScryptCost {
  return { salt, logN: 17, r: 8, p: 1 };
}

/** The key that a passphrase gives under a slot's cost. */
export async function passphraseKey(passphrase: Uint8Array, { salt, logN, r, p }: ScryptCost): Promise<Buffer> {
  const N = 2 ** logN;
  return await stretch(passphrase, salt, 32, { N, r, p, maxmem: 128 * r * (N + p + 2) });
}

/** @param wrapping the key to wrap under; @param key the repository key; both 32 bytes */
export function encodeSlot(facts: Omit<SlotFacts, "id">, repositoryId: Uint8Array, { wrapping, key }: SlotKeys): Buffer {
  requireLabel(facts.label);
  const clear = clearFields({ ...facts, id: keyIdOf(wrapping, repositoryId) }, repositoryId);
  const under = derive(wrapping, repositoryId, "thinstream/1/slot");
  const body = { ...clear, sealed: sealSecret(key, under, clear) };
  under.fill(0);
  return encodeSummed({ ...body, mac: macOf(body, key, repositoryId).toString("hex") });
}

interface SlotKeys {
  readonly wrapping: Uint8Array;
  readonly key: Uint8Array;
}

/** Reads a slot without any key. Rejects `damaged`, and costs that no writer takes. */
export function decodeSlot(bytes: Uint8Array, id: string, { at, repositoryId }: SlotPlace): Slot {
  const { sealed, mac, ...clear } = decodeSummed(bytes, { at, format: FORMAT, repositoryId });
  if (clear["id"] !== id) throw damaged(`${at} is the slot of another place`);
  return {
    at,
    id,
    label: asLabel(clear["label"], at),
    created: asTime(clear["created"], `${at}: created`),
    opens: asHex(clear["opens"], `${at}: opens`, KEY_ID).toString("hex"),
    way: wayOf(clear, at),
    clear,
    sealed: asHex(sealed, `${at}: sealed`, sealedLength(32)),
    mac: asHex(mac, `${at}: mac`, 32),
  };
}

interface SlotPlace {
  readonly at: string;
  readonly repositoryId: Uint8Array;
}

/** The repository key in a slot whose id shows that `wrapping` is its key. Rejects `tampered`. */
export function openSlot(slot: Slot, wrapping: Uint8Array, repositoryId: Uint8Array): Buffer {
  const under = derive(wrapping, repositoryId, "thinstream/1/slot");
  const key = openSecret(slot.sealed, under, slot.clear);
  under.fill(0);
  if (key === null) throw tampered(slot.at);
  if (keyIdOf(key, repositoryId) === slot.opens && isGenuine(slot, key, repositoryId)) return key;
  key.fill(0);
  throw tampered(slot.at);
}

/** Whether who wrote the slot had the repository key, and nobody changed it since. */
export function isGenuine(slot: Slot, key: Uint8Array, repositoryId: Uint8Array): boolean {
  return timingSafeEqual(slot.mac, macOf({ ...slot.clear, sealed: slot.sealed.toString("hex") }, key, repositoryId));
}

function clearFields({ id, label, created, opens, way }: SlotFacts, repositoryId: Uint8Array): JsonObject {
  const repository = Buffer.from(repositoryId).toString("hex");
  const common = { format: FORMAT, version: 1, repository, id, kind: way.kind, label, created, opens };
  if (way.kind === "passphrase") return { ...common, scrypt: { ...way.scrypt, salt: way.scrypt.salt.toString("hex") } };
  return way.kind === "kms" ? { ...common, kms: { provider: way.provider, wrapped: way.wrapped.toString("hex") } } : common;
}

function wayOf(clear: JsonObject, at: string): SlotWay {
  const kind = asOneOf(clear["kind"], `${at}: kind`, ["passphrase", "key-file", "kms"]);
  if (kind === "key-file") return { kind };
  if (kind === "kms") {
    const kms = asObject(clear["kms"], `${at}: kms`);
    const wrapped = asString(kms["wrapped"], `${at}: wrapped`);
    if (wrapped.length > 2 * MAX_KMS) throw damaged(`${at} holds more than ${MAX_KMS} wrapped bytes`);
    return { kind, provider: asString(kms["provider"], `${at}: provider`), wrapped: asHex(wrapped, `${at}: wrapped`, wrapped.length / 2) };
  }
  const cost = asObject(clear["scrypt"], `${at}: scrypt`);
  const logN = asCount(cost["logN"], `${at}: logN`, 18);
  const p = asCount(cost["p"], `${at}: p`, 4);
  // Bounded before anything is computed: who can write to the bucket chooses these.
  if (logN < 14 || p < 1 || cost["r"] !== 8) throw damaged(`${at} asks for a cost of scrypt that no slot has`);
  return { kind, scrypt: { salt: asHex(cost["salt"], `${at}: salt`, 32), logN, r: 8, p } };
}

function macOf(body: JsonObject, key: Uint8Array, repositoryId: Uint8Array): Buffer {
  const under = derive(key, repositoryId, "thinstream/1/slot-mac");
  const mac = createHmac("sha256", under).update(canonicalJson(body)).digest();
  under.fill(0);
  return mac;
}

/** Anybody who writes to the bucket can plant a slot, and what it says is shown. */
function asLabel(value: unknown, at: string): string {
  const label = asString(value, `${at}: label`);
  if (!LABEL.test(label)) throw damaged(`${at}: label is none`);
  return label;
}

function requireLabel(label: string): void {
  if (LABEL.test(label)) return;
  throw new FormatError("invalid", "A label is at most 64 printable ASCII characters; it lies in the bucket in the clear");
}
