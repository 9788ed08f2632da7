import { probeStore } from "../../objectstore/index.ts";
import { type Credential, FormatError, Repository, type RepositoryAccess, RepositoryError } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withStore } from "../context.ts";
import { type CredentialPlace, credentialPlace, withCredential } from "../credential.ts";
import { ExitCode } from "../exit-codes.ts";
import { readOrMakeKeyFile } from "../key-file.ts";
import { UsageError } from "../usage-error.ts";

export interface InitFlags extends RepositoryFlags {
  /** commander's form of --no-encryption */
  readonly encryption: boolean;
}

/** `thinstream init`: an empty repository, and its key where there is none yet. */
export async function init(flags: InitFlags, context: Context): Promise<Outcome> {
  const place = placeOf(flags);
  return await withStore(flags.repo, context, async (store) => {
    await probeStore(store, { signal: context.signal });
    return await withNewCredential(place, { store, signal: context.signal }, async (key, made) => {
      const repository = await Repository.init({ store, key, signal: context.signal });
      const json = {
        repository: repository.config.id.toString("hex"),
        url: store.url,
        encrypted: repository.config.encrypted,
        keyFile: place?.kind === "key" ? place.path : null,
      };
      return { json, text: `Made a repository at ${store.url}\n${keySentence(place, made)}`, exitCode: ExitCode.ok };
    });
  });
}

function placeOf(flags: InitFlags): CredentialPlace | null {
  if (flags.encryption) {
    const place = credentialPlace(flags);
    if (place !== null) return place;
    throw new UsageError("A repository needs a key", {
      hint: "Give --key-file FILE (made where it does not exist) or --passphrase-file FILE, or --no-encryption",
    });
  }
  const given = flags.keyFile === undefined ? (flags.passphraseFile === undefined ? null : "--passphrase-file") : "--key-file";
  if (given !== null) throw new UsageError(`--no-encryption and ${given} exclude each other`);
  return null;
}

function keySentence(place: CredentialPlace | null, made: boolean): string {
  if (place === null) return "Not encrypted.";
  if (place.kind === "passphrase")
    return "The passphrase alone opens it: without it nothing can be restored. `thinstream key add` makes other ways in.";
  return `Key file: ${place.path}${made ? " (new). Keep a copy elsewhere: without it nothing can be restored." : ""}`;
}

/** A key file is made where there is none, and removed again where the work fails and nothing was made that it would open. */
async function withNewCredential<T>(
  place: CredentialPlace | null,
  access: Omit<RepositoryAccess, "key">,
  work: (key: Credential, made: boolean) => Promise<T>,
): Promise<T> {
  if (place?.kind !== "key") return await withCredential(place, async (key) => await work(key, false));
  const { key, made, undo } = await readOrMakeKeyFile(place.path);
  try {
    return await work(key, made);
  } catch (thrown) {
    if (made && (await opensNothing({ ...access, key }))) await undo();
    throw thrown;
  } finally {
    key.fill(0);
  }
}

/** Whether it is sure that there is no repository of this key: where the store does not say, there may be one. */
async function opensNothing(access: RepositoryAccess): Promise<boolean> {
  return await Repository.open(access).then(
    () => false,
    (thrown: unknown) =>
      (thrown instanceof RepositoryError && thrown.code === "not-a-repository") ||
      (thrown instanceof FormatError && thrown.code === "wrong-key"),
  );
}
