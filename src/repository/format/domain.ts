import { damaged, FormatError } from "./errors.ts";
import { asArray, asString, type JsonObject, parseObject } from "./json.ts";

/** The domain of a repository that was not asked for another. */
export const DEFAULT_DOMAIN = "default";

/** What is known of a domain beside its key, FORMAT.md §4.3. */
export interface DomainFacts {
  readonly name: string;
  /** RFC 3339 */
  readonly created: string;
}

/** A domain whose key was destroyed, or is about to be. */
export interface DestroyedFacts extends DomainFacts {
  /** RFC 3339, by the store's clock */
  readonly time: string;
  /** ids of its machines */
  readonly machines: readonly string[];
}

/** Rejects `invalid` for what no domain can be called. */
export function requireDomainName(name: string): void {
  if (/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(name)) return;
  throw new FormatError("invalid", `"${name.slice(0, 64)}" cannot be the name of a domain`, {
    hint: "Take up to 63 letters, digits, dots, dashes and underscores, with a letter or digit at either end",
  });
}

export function encodeDomainFacts({ name, created }: DomainFacts): Buffer {
  return Buffer.from(JSON.stringify({ name, created }));
}

export function decodeDomainFacts(bytes: Uint8Array, at: string): DomainFacts {
  return factsOf(parseObject(bytes, at), at);
}

export function encodeDestroyed({ name, created, time, machines }: DestroyedFacts): Buffer {
  return Buffer.from(JSON.stringify({ name, created, time, machines }));
}

export function decodeDestroyed(bytes: Uint8Array, at: string): DestroyedFacts {
  const json = parseObject(bytes, at);
  const time = asString(json["time"], `${at}: time`);
  if (!Number.isFinite(Date.parse(time))) throw damaged(`${at}: time is none`);
  const machines = asArray(json["machines"], `${at}: machines`).map((one) => {
    if (typeof one !== "string" || !/^[0-9a-f]{12}$/.test(one)) throw damaged(`${at} names a machine that has no id`);
    return one;
  });
  return { ...factsOf(json, at), time, machines };
}

function factsOf(json: JsonObject, at: string): DomainFacts {
  return { name: asString(json["name"], `${at}: name`), created: asString(json["created"], `${at}: created`) };
}
