import type { Logger } from "../lib/logger.ts";
import { type ObjectStore, probeStore } from "../objectstore/index.ts";
import { Repository, type RepositoryAccess, RepositoryError } from "../repository/index.ts";
import { keyFileFrom, keyFileWarning, readKeyFile } from "./key-file.ts";
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

export interface RepositoryFlags {
  readonly repo: string;
  readonly keyFile?: string;
  /** whose S3 credentials, where it is not the usual chain's */
  readonly profile?: string;
}

/** A repository to open. */
export interface RepositoryPlace extends StoreLimits {
  readonly url: string;
  /** null: not encrypted */
  readonly keyFile: string | null;
  /** Whether an empty one is made where there is none. Default: no. */
  readonly initialize?: boolean;
}

/** Opens the repository for `work` and closes its store afterwards, however it ends. */
export async function withRepository<T>(
  flags: RepositoryFlags,
  context: Context,
  work: (repository: Repository) => Promise<T>,
): Promise<T> {
  const path = keyFileFrom(flags.keyFile);
  const warning = path === null ? null : await keyFileWarning(path).catch(() => null);
  if (warning !== null) context.log.warn({}, warning);
  const limits = flags.profile === undefined ? {} : { profile: flags.profile };
  return await withRepositoryAt({ url: flags.repo, keyFile: path, ...limits }, context, work);
}

/** As `withRepository`, where nobody looks after who else can read the key file. */
export async function withRepositoryAt<T>(
  { url, keyFile, initialize = false, ...limits }: RepositoryPlace,
  context: Context,
  work: (repository: Repository) => Promise<T>,
): Promise<T> {
  const key = keyFile === null ? null : await readKeyFile(keyFile);
  return await withStore(
    url,
    context,
    async (store) => {
      const access = { store, key, signal: context.signal };
      return await work(await (initialize ? openOrMake(access) : Repository.open(access)));
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
