import type { ObjectStore } from "../../objectstore/index.ts";
import { domainIdOf, openDomain, openDomainById } from "../domain-key.ts";
import { type ConfigClaim, requireKeyGiven } from "../format/config.ts";
import type { RepositoryConfig } from "../format/config.ts";
import { FORMAT_VERSION } from "../format/constants.ts";
import { DEFAULT_DOMAIN } from "../format/domain.ts";
import { damaged, FormatError } from "../format/errors.ts";
import { domainKeys } from "../format/keys.ts";
import type { DomainCredential } from "../keys/credential.ts";
import type { RepositoryKey } from "../keys/repository-key.ts";
import { domainKeyAt, DOMAINS, KEYS, packsOf, parseDomainKey } from "../layout.ts";
import { hasAny, isThere } from "../try-get.ts";
import { nameIfKnown, type OpenedDomain, readDomainName } from "./domain-name.ts";
import { readTombstones, type Tombstone } from "./tombstone.ts";

export interface Places {
  readonly store: ObjectStore;
  readonly signal?: AbortSignal;
}

/** A domain whose key is not there or not as it was written, and that nobody destroyed. */
export interface LostDomain {
  readonly id: string;
  readonly name: string | null;
  readonly error: FormatError;
}

/** What the keys at hand open of a repository. */
export interface Found {
  readonly config: RepositoryConfig;
  readonly opened: readonly (OpenedDomain & { readonly name: string | null })[];
  readonly destroyed: readonly Tombstone[];
  readonly announced: readonly Tombstone[];
  readonly lost: readonly LostDomain[];
  /** whether there may be others, whose points are none of our business */
  readonly partial: boolean;
  /** whether the key at hand is that of one domain */
  readonly readsOnly: boolean;
}

/** There is nothing of the kind. */
export const none: Pick<Found, "destroyed" | "announced" | "lost"> = { destroyed: [], announced: [], lost: [] };
const whole: Pick<Found, "partial" | "readsOnly"> = { partial: false, readsOnly: false };

/** All that a repository's key opens; there may be nothing any more. */
export async function openAll(key: RepositoryKey, places: Places): Promise<Found> {
  const { config } = key;
  if (!config.encrypted) {
    const opened = [{ ...(await openDomain(DEFAULT_DOMAIN, key, places)), name: DEFAULT_DOMAIN }];
    return { config, opened, ...none, ...whole };
  }
  const keys = await idsBelow(KEYS, places);
  const destroyed: Tombstone[] = [];
  const announced: Tombstone[] = [];
  // A list of keys that came back short destroys nothing: the store is asked for each.
  for (const one of await readTombstones(key, places))
    ((await isThere(places.store, domainKeyAt(one.id), places.signal)) ? announced : destroyed).push(one);
  const known = [...keys, ...announced.map(({ id }) => id)];
  const ids = (await expectedIds(key, known, places)).filter((id) => !destroyed.some((one) => one.id === id));
  // As an init leaves it that died right after its config.
  if (ids.length === 0 && destroyed.length === 0)
    return { config, opened: [{ ...(await openDomain(DEFAULT_DOMAIN, key, places)), name: DEFAULT_DOMAIN }], ...none, ...whole };
  const { opened, lost } = await openEach(ids, key, places);
  const [worst] = lost;
  if (opened.length === 0 && worst !== undefined) throw worst.error;
  return { config, opened, destroyed, announced, lost, ...whole };
}

/** Domains that have a key, and such as once must have had one. */
async function expectedIds(key: RepositoryKey, keys: readonly string[], places: Places): Promise<string[]> {
  const first = domainIdOf(DEFAULT_DOMAIN, key);
  const hasData = !keys.includes(first) && (await hasAny(places.store, packsOf(first), places.signal));
  return [...new Set([...keys, ...(await idsBelow(DOMAINS, places)), ...(hasData ? [first] : [])])];
}

async function openEach(ids: readonly string[], key: RepositoryKey, places: Places): Promise<Pick<Found, "opened" | "lost">> {
  const first = domainIdOf(DEFAULT_DOMAIN, key);
  const opened: Found["opened"][number][] = [];
  const lost: LostDomain[] = [];
  for (const id of ids) {
    const domain = await openDomainById(id, key, places).catch(unlessLost);
    const isFirst = id === first;
    if (domain instanceof FormatError) lost.push({ id, name: isFirst ? DEFAULT_DOMAIN : null, error: domain });
    else opened.push({ ...domain, name: isFirst ? DEFAULT_DOMAIN : ((await nameIfKnown(domain, places))?.name ?? null) });
  }
  return { opened, lost };
}

function unlessLost(thrown: unknown): FormatError {
  if (thrown instanceof FormatError && thrown.code === "damaged") return thrown;
  throw thrown;
}

/** One domain by its own key: nothing here is proved by the repository's, and all that is read is proved by the domain's. */
export async function openPart(claim: ConfigClaim, { key: file }: DomainCredential, places: Places): Promise<Found> {
  requireKeyGiven(claim, true);
  if (!file.repositoryId.equals(claim.id)) {
    throw new FormatError("wrong-key", `This is the key of a domain of another repository (${file.repositoryId.toString("hex")})`, {
      hint: `The repository at ${places.store.url} is ${claim.id.toString("hex")}`,
    });
  }
  const domain = { id: file.domain, keys: domainKeys(Buffer.from(file.key), claim.id, true) };
  const facts = await readDomainName(domain, places).catch((cause: unknown) => {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError("wrong-key", `This key is not that of the domain ${file.domain}, or ${DOMAINS}${file.domain} was changed`, {
      cause,
    });
  });
  if (facts === null) {
    throw damaged(`${DOMAINS}${file.domain} is missing from ${places.store.url}: the domain was destroyed, or the object lost`);
  }
  const config = { version: FORMAT_VERSION, id: claim.id, created: claim.created, encrypted: true };
  return { config, opened: [{ ...domain, name: facts.name }], ...none, partial: true, readsOnly: true };
}

/** Ids of the domains of which something lies there. */
export async function idsBelow(prefix: string, { store, signal }: Places): Promise<string[]> {
  const ids: string[] = [];
  for await (const { key } of store.list(prefix, signal === undefined ? {} : { signal })) {
    const id = parseDomainKey(key);
    if (id !== null) ids.push(id);
  }
  return ids;
}
