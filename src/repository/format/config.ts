import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";

import { FANOUT, FORMAT_VERSION, GRANULE } from "./constants.ts";
import { damaged, FormatError } from "./errors.ts";
import { asArray, asHex, asObject, asOneOf, asString, canonicalJson, parseObject, shown, type JsonObject } from "./json.ts";
import { NO_KEY, repositoryKeys } from "./keys.ts";

/** The one hash of version 1. */
const HASH = "blake3-256-keyed";

/** What a repository is, FORMAT.md §3. */
export interface RepositoryConfig {
  /** of the format */
  readonly version: number;
  /** 16 bytes */
  readonly id: Buffer;
  readonly created: string;
  readonly encrypted: boolean;
}

/** The bytes of `config`. @param key the repository key, `NO_KEY` without encryption */
export function encodeConfig(config: RepositoryConfig, key: Uint8Array): Buffer {
  const keys = repositoryKeys(key, config.id);
  const body = {
    format: "thinstream-repository",
    version: config.version,
    features: [],
    id: config.id.toString("hex"),
    created: config.created,
    granule: GRANULE,
    fanout: FANOUT,
    hash: HASH,
    encryption: config.encrypted ? { mode: "aes-256-gcm", keyId: keys.keyId } : { mode: "none" },
  };
  return Buffer.from(`${JSON.stringify({ ...body, mac: mac(body, keys.config).toString("hex") }, null, 1)}\n`);
}

/** A config as it was read, not yet proved by a key. */
export interface ConfigClaim {
  readonly id: Buffer;
  readonly created: string;
  readonly encrypted: boolean;
  /** id of the first repository key; null without encryption */
  readonly keyId: string | null;
  readonly mac: Buffer;
  readonly body: JsonObject;
}

/** Reads `config`. Rejects what is damaged at first sight, and `newer-format`. */
export function parseConfig(bytes: Uint8Array): ConfigClaim {
  const { mac: given, ...body } = parseObject(bytes, "The repository's config");
  requireKnown(body);
  const encryption = asObject(body["encryption"], "The repository's encryption");
  const mode = asOneOf(encryption["mode"], "The repository's encryption mode", ["aes-256-gcm", "none"]);
  return {
    id: asHex(body["id"], "The repository's id", 16),
    created: asString(body["created"], "The repository's time of creation"),
    encrypted: mode !== "none",
    keyId: mode === "none" ? null : asString(encryption["keyId"], "The id of the repository's key"),
    mac: asHex(given, "The config's mac", 32),
    body,
  };
}

/** Proves that `key` is the repository's first one, and that the config is as it was written. @param key `NO_KEY` without encryption */
export function proveConfig(claim: ConfigClaim, key: Uint8Array): RepositoryConfig {
  const { id, created, encrypted, keyId, body } = claim;
  const keys = repositoryKeys(key, id);
  if (encrypted && keyId !== keys.keyId) throw wrongKey();
  if (!timingSafeEqual(mac(body, keys.config), claim.mac)) throw damaged("The repository's config was changed after it was written");
  return { version: FORMAT_VERSION, id, created, encrypted };
}

/** Reads `config` of a repository whose key was never replaced, and proves that `key` (null: none was given) is the repository's. */
export function decodeConfig(bytes: Uint8Array, key: Uint8Array | null): RepositoryConfig {
  const claim = parseConfig(bytes);
  requireKeyGiven(claim, key !== null);
  return proveConfig(claim, key ?? NO_KEY);
}

/** A key that is none of the repository's. */
export function wrongKey(): FormatError {
  return new FormatError("wrong-key", "This key is not the repository's", {
    hint: "Give the key file that `thinstream init` made for this repository, or one that `thinstream key add` let in",
  });
}

/** Rejects a key for a repository without encryption, and none for one with it. */
export function requireKeyGiven({ encrypted }: ConfigClaim, given: boolean): void {
  if (encrypted && !given) {
    throw new FormatError("wrong-key", "The repository is encrypted and no key was given", {
      hint: "Give --key-file or --passphrase-file, or set THINSTREAM_KEY_FILE",
    });
  }
  if (encrypted || !given) return;
  throw new FormatError("wrong-key", "A key was given but the repository says it is not encrypted", {
    hint: "If it should be encrypted, somebody changed it: do not write to it. If not, leave the key out",
  });
}

function requireKnown(body: JsonObject): void {
  if (body["format"] !== "thinstream-repository") throw damaged("The object named config is not a Thinstream repository's");
  const features = asArray(body["features"], "The config's features");
  const version = body["version"];
  const fixed = body["granule"] === GRANULE && body["fanout"] === FANOUT && body["hash"] === HASH;
  if (version === FORMAT_VERSION && features.length === 0 && fixed) return;
  throw new FormatError(
    "newer-format",
    `The repository has format ${shown(version)}${features.length > 0 ? ` with ${features.slice(0, 8).map(shown).join(", ")}` : ""}; this program knows format ${FORMAT_VERSION}`,
    {
      hint: "Use the version of Thinstream that wrote it, or a later one",
    },
  );
}

function mac(body: JsonObject, key: KeyObject): Buffer {
  return createHmac("sha256", key).update(canonicalJson(body)).digest();
}
