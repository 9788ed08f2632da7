import { createHmac, createSecretKey, hkdfSync, type KeyObject } from "node:crypto";

import { FormatError } from "./errors.ts";

const KEY_LENGTH = 32;
const text = new TextEncoder();

/** The key of a repository without encryption: hashes and names become public functions of their input. */
export const NO_KEY: Uint8Array = new Uint8Array(KEY_LENGTH);

/** HKDF-SHA-256 to 32 bytes, FORMAT.md §4. */
export function derive(key: Uint8Array, salt: Uint8Array, info: string): Buffer {
  return Buffer.from(hkdfSync("sha256", key, salt, text.encode(info), KEY_LENGTH));
}

/** The same where no program sees the bytes: they are overwritten when nobody has the key any more. */
function deriveKeyObject(key: Uint8Array, salt: Uint8Array, info: string): KeyObject {
  const derived = derive(key, salt, info);
  const made = createSecretKey(derived);
  derived.fill(0);
  return made;
}

/** 16 hex digits that tell one key from another. @param repositoryId 16 bytes */
export function keyIdOf(key: Uint8Array, repositoryId: Uint8Array): string {
  requireKey(key);
  return derive(key, repositoryId, "thinstream/1/key-id").toString("hex", 0, 8);
}

/** What is derived from the repository key. */
export interface RepositoryKeys {
  readonly keyId: string;
  readonly config: KeyObject;
  /** made for who asks, and to be overwritten by them */
  readonly document: Buffer;
  /** 8 hex digits */
  domainId(name: string): string;
}

/** @param key 32 bytes @param repositoryId 16 bytes */
export function repositoryKeys(key: Uint8Array, repositoryId: Uint8Array): RepositoryKeys {
  requireKey(key);
  return {
    keyId: keyIdOf(key, repositoryId),
    config: deriveKeyObject(key, repositoryId, "thinstream/1/config"),
    get document() {
      return derive(key, repositoryId, "thinstream/1/document");
    },
    domainId: (name) => derive(key, repositoryId, `thinstream/1/domain/${name}`).toString("hex", 0, 4),
  };
}

/** What is derived from a domain key; nothing but what can be handed to worker threads. */
export interface DomainKeys {
  readonly encrypted: boolean;
  readonly domainKey: Uint8Array;
  /** ready for use: thousands of points are opened with it */
  readonly document: KeyObject;
  readonly name: Uint8Array;
  readonly hash: { readonly granule: Uint8Array; readonly node: Uint8Array; readonly capture: Uint8Array };
}

/** @param key 32 bytes @param repositoryId 16 bytes */
export function domainKeys(key: Uint8Array, repositoryId: Uint8Array, encrypted: boolean): DomainKeys {
  requireKey(key);
  return {
    encrypted,
    domainKey: key,
    document: deriveKeyObject(key, repositoryId, "thinstream/1/document"),
    name: derive(key, repositoryId, "thinstream/1/name"),
    hash: {
      granule: derive(key, repositoryId, "thinstream/1/hash/granule"),
      node: derive(key, repositoryId, "thinstream/1/hash/node"),
      capture: derive(key, repositoryId, "thinstream/1/hash/capture"),
    },
  };
}

/** Key that seals the frames of one run's packs. */
export function packKey(keys: DomainKeys, runId: Uint8Array): Buffer {
  return derive(keys.domainKey, runId, "thinstream/1/seal");
}

/** 12 hex digits that stand for a VM's name in object keys. */
export function vmId(keys: DomainKeys, vmName: string): string {
  return createHmac("sha256", keys.name).update(vmName, "utf8").digest("hex").slice(0, 12);
}

function requireKey(key: Uint8Array): void {
  if (key.length !== KEY_LENGTH) throw new FormatError("invalid", `A key has ${KEY_LENGTH} bytes, this one has ${key.length}`);
}
