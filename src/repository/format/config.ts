import { createHmac, timingSafeEqual } from "node:crypto";

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

/** Reads `config` and proves that `key` (null: none was given) is the repository's. */
export function decodeConfig(bytes: Uint8Array, key: Uint8Array | null): RepositoryConfig {
  const { mac: given, ...body } = parseObject(bytes, "The repository's config");
  requireKnown(body);
  const id = asHex(body["id"], "The repository's id", 16);
  const encryption = asObject(body["encryption"], "The repository's encryption");
  const mode = asOneOf(encryption["mode"], "The repository's encryption mode", ["aes-256-gcm", "none"]);
  const keys = repositoryKeys(usableKey(mode, key), id);
  if (mode !== "none" && encryption["keyId"] !== keys.keyId) {
    throw new FormatError("wrong-key", "This key is not the repository's", {
      hint: "Give the key file that `thinstream init` made for this repository",
    });
  }
  const expected = mac(body, keys.config);
  if (!timingSafeEqual(expected, asHex(given, "The config's mac", expected.length)))
    throw damaged("The repository's config was changed after it was written");
  return {
    version: FORMAT_VERSION,
    id,
    created: asString(body["created"], "The repository's time of creation"),
    encrypted: mode !== "none",
  };
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

function usableKey(mode: "aes-256-gcm" | "none", key: Uint8Array | null): Uint8Array {
  if (mode === "none") {
    if (key === null) return NO_KEY;
    throw new FormatError("wrong-key", "A key was given but the repository says it is not encrypted", {
      hint: "If it should be encrypted, somebody changed it: do not write to it. If not, leave the key out",
    });
  }
  if (key !== null) return key;
  throw new FormatError("wrong-key", "The repository is encrypted and no key was given", {
    hint: "Give --key-file or set THINSTREAM_KEY_FILE",
  });
}

function mac(body: JsonObject, key: Uint8Array): Buffer {
  return createHmac("sha256", key).update(canonicalJson(body)).digest();
}
