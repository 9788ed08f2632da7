import type { Logger } from "../lib/logger.ts";
import type { ObjectStore } from "../objectstore/index.ts";
import { Repository } from "../repository/index.ts";
import { keyFileFrom, keyFileWarning, readKeyFile } from "./key-file.ts";
import { openStore } from "./open-store.ts";
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
}

/** Opens the repository for `work` and closes its store afterwards, however it ends. */
export async function withRepository<T>(
  flags: RepositoryFlags,
  context: Context,
  work: (repository: Repository) => Promise<T>,
): Promise<T> {
  const path = keyFileFrom(flags.keyFile);
  const key = path === null ? null : await readKeyFile(path);
  const warning = path === null ? null : await keyFileWarning(path);
  if (warning !== null) context.log.warn({}, warning);
  return await withStore(flags.repo, context, async (store) => await work(await Repository.open({ store, key, signal: context.signal })));
}

export async function withStore<T>(url: string, context: Context, work: (store: ObjectStore) => Promise<T>): Promise<T> {
  const store = openStore(url, context.log);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}
