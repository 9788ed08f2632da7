import { readFile, stat } from "node:fs/promises";

import { errorText } from "../lib/errors.ts";
import { type Credential, DomainCredential, Passphrase } from "../repository/index.ts";
import { readAnyKeyFile } from "./key-file.ts";
import { UsageError } from "./usage-error.ts";

const MAX_PASSPHRASE_FILE = 4096;

/** Flags that say what opens a repository. */
export interface CredentialFlags {
  readonly keyFile?: string;
  readonly passphraseFile?: string;
}

/** A file that opens a repository. */
export interface CredentialPlace {
  readonly kind: "key" | "passphrase";
  readonly path: string;
}

/** What was named, by flag or else by environment; null for nothing, also for a flag that says so by an empty name. */
export function credentialPlace(flags: CredentialFlags): CredentialPlace | null {
  const { THINSTREAM_KEY_FILE: keyFile, THINSTREAM_PASSPHRASE_FILE: passphraseFile } = process.env;
  if (flags.keyFile !== undefined || flags.passphraseFile !== undefined)
    return oneOf({ ...flags }, "--key-file and --passphrase-file exclude each other");
  return oneOf(
    { keyFile, passphraseFile },
    "THINSTREAM_KEY_FILE and THINSTREAM_PASSPHRASE_FILE are both set, and no flag says which counts",
  );
}

function oneOf(
  { keyFile = "", passphraseFile = "" }: { readonly [K in keyof CredentialFlags]?: string | undefined },
  both: string,
): CredentialPlace | null {
  if (keyFile !== "" && passphraseFile !== "") throw new UsageError(both);
  if (passphraseFile !== "") return { kind: "passphrase", path: passphraseFile };
  return keyFile === "" ? null : { kind: "key", path: keyFile };
}

/** Reads what opens a repository for `work`, and overwrites it afterwards, however that ends. */
export async function withCredential<T>(place: CredentialPlace | null, work: (credential: Credential) => Promise<T>): Promise<T> {
  const credential = place === null ? null : place.kind === "key" ? await readAnyKeyFile(place.path) : await readPassphrase(place.path);
  try {
    return await work(credential);
  } finally {
    secretOf(credential)?.fill(0);
  }
}

function secretOf(credential: Uint8Array | DomainCredential | Passphrase | null): Uint8Array | null {
  if (credential instanceof Passphrase) return credential.bytes;
  return credential instanceof DomainCredential ? credential.key.key : credential;
}

/** The file's bytes less one line end. Nothing that is said of it quotes it. */
export async function readPassphrase(path: string): Promise<Passphrase> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new UsageError(`The passphrase file ${path} cannot be read: ${errorText(cause)}`, { cause });
  }
  if (bytes.length > MAX_PASSPHRASE_FILE)
    throw new UsageError(`The passphrase file ${path} has ${bytes.length} bytes: it holds no passphrase`);
  const text = bytes.subarray(0, bytes.length - lineEnd(bytes));
  if (text.length === 0) throw new UsageError(`The passphrase file ${path} is empty`);
  return new Passphrase(text);
}

function lineEnd(bytes: Buffer): number {
  if (bytes.at(-1) !== 0x0a) return 0;
  return bytes.at(-2) === 0x0d ? 2 : 1;
}

/** A sentence when others than the owner can read the file, else null. */
export async function credentialWarning({ kind, path }: CredentialPlace): Promise<string | null> {
  const { mode } = await stat(path);
  return (mode & 0o077) === 0 ? null : `The ${kind} file ${path} can be read by others; make it so with: chmod 600 ${path}`;
}
