import type { Logger } from "../lib/logger.ts";
import { type ObjectStore, probeStore } from "../objectstore/index.ts";
import { Domains, KeyRing, Repository, type RepositoryAccess, RepositoryError } from "../repository/index.ts";
import { type CredentialFlags, type CredentialPlace, credentialPlace, credentialWarning, withCredential } from "./credential.ts";
import { openStore, type StoreLimits } from "./open-store.ts";
import type { ExitCode } from "./exit-codes.ts";

/** What every command is given. */
export interface Context {
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly version: string;
}

/** What a command leaves: `json` for machines, `text` for people, and how it went. */
export interface Outcome {
  readonly json: object;
  readonly text: string;
  readonly exitCode: ExitCode;
}

export interface RepositoryFlags extends CredentialFlags {
  readonly repo: string;
  /** whose S3 credentials, where it is not the usual chain's */
  readonly profile?: string;
  /** name of the only domain that is meant */
  readonly keyDomain?: string;
}

/** A repository to open. */
export interface RepositoryPlace extends StoreLimits {
  readonly url: string;
  /** null: not encrypted */
  readonly credential: CredentialPlace | null;
  /** Whether an empty one is made where there is none. Default: no. */
  readonly initialize?: boolean;
  /** Domain that is opened, and made where there is none. Default: the one that every repository has. */
  readonly domain?: string;
}

/** Opens all domains of the repository for `work`, or the one that is named, and closes its store afterwards, however it ends. */
export async function withDomains<T>(flags: RepositoryFlags, context: Context, work: (domains: Domains) => Promise<T>): Promise<T> {
  const limits = flags.profile === undefined ? {} : { profile: flags.profile };
  const place = { url: flags.repo, credential: await placeOf(flags, context), ...limits };
  return await withDomainsAt(place, context, async (domains) => {
    return await work(flags.keyDomain === undefined ? domains : domains.only(flags.keyDomain));
  });
}

/** Opens one domain of the repository for `work` that may write, and closes its store afterwards, however it ends. */
export async function withRepository<T>(
  flags: RepositoryFlags,
  context: Context,
  work: (repository: Repository) => Promise<T>,
): Promise<T> {
  const limits = flags.profile === undefined ? {} : { profile: flags.profile };
  const domain = flags.keyDomain === undefined ? {} : { domain: flags.keyDomain };
  return await withRepositoryAt({ url: flags.repo, credential: await placeOf(flags, context), ...limits, ...domain }, context, work);
}

/** As `withRepository`, for work on the keys themselves. */
export async function withKeyRing<T>(flags: RepositoryFlags, context: Context, work: (ring: KeyRing) => Promise<T>): Promise<T> {
  const place = await placeOf(flags, context);
  return await withStore(flags.repo, context, async (store) => {
    const ring = await withCredential(place, async (key) => await KeyRing.open({ store, key, signal: context.signal }));
    try {
      return await work(ring);
    } finally {
      ring.close();
    }
  });
}

async function placeOf(flags: RepositoryFlags, context: Context): Promise<CredentialPlace | null> {
  const place = credentialPlace(flags);
  const warning = place === null ? null : await credentialWarning(place).catch(() => null);
  if (warning !== null) context.log.warn({}, warning);
  return place;
}

/** As `withRepository`, where nobody looks after who else can read the key file. */
export async function withRepositoryAt<T>(
  { url, credential, initialize = false, domain, ...limits }: RepositoryPlace,
  context: Context,
  work: (repository: Repository) => Promise<T>,
): Promise<T> {
  return await withStore(
    url,
    context,
    async (store) => {
      const repository = await withCredential(credential, async (key) => {
        const access = { store, key, signal: context.signal, ...(domain === undefined ? {} : { domain }) };
        return await (initialize ? openOrMake(access) : Repository.open(access));
      });
      return await work(repository);
    },
    limits,
  );
}

/** As `withDomains`, where nobody looks after who else can read the key file. */
export async function withDomainsAt<T>(
  { url, credential, initialize = false, domain: _one, ...limits }: RepositoryPlace,
  context: Context,
  work: (domains: Domains) => Promise<T>,
): Promise<T> {
  return await withStore(
    url,
    context,
    async (store) => {
      const domains = await withCredential(credential, async (key) => {
        const access = { store, key, signal: context.signal };
        if (initialize) await openOrMake(access);
        return await Domains.open(access);
      });
      return await work(domains);
    },
    limits,
  );
}

/** Of two who make it at once one wins, and both have the winner's. */
async function openOrMake(access: RepositoryAccess): Promise<Repository> {
  try {
    return await Repository.open(access);
  } catch (thrown) {
    if (!(thrown instanceof RepositoryError) || thrown.code !== "not-a-repository") throw thrown;
  }
  await probeStore(access.store, access);
  try {
    return await Repository.init(access);
  } catch (thrown) {
    if (!(thrown instanceof RepositoryError) || thrown.code !== "already-a-repository") throw thrown;
    return await Repository.open(access);
  }
}

export async function withStore<T>(
  url: string,
  context: Context,
  work: (store: ObjectStore) => Promise<T>,
  limits: StoreLimits = {},
): Promise<T> {
  const store = openStore(url, context.log, limits);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}
