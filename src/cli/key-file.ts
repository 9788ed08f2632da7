import { constants } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { dirname } from "node:path";

import { errorText } from "../lib/errors.ts";
import { DomainCredential, formatKeyFile, parseDomainKeyFile, parseKeyFile } from "../repository/index.ts";
import { UsageError } from "./usage-error.ts";

/** @returns 32 bytes */
export async function readKeyFile(path: string): Promise<Buffer> {
  return await withContent(path, parseKeyFile);
}

/** A repository's key (32 bytes), or that of one of its domains. */
export async function readAnyKeyFile(path: string): Promise<Buffer | DomainCredential> {
  return await withContent(path, (content) => {
    const domain = parseDomainKeyFile(content);
    return domain === null ? parseKeyFile(content) : new DomainCredential(domain);
  });
}

async function withContent<T>(path: string, read: (content: string) => T): Promise<T> {
  let content: Buffer;
  try {
    content = await readFile(path);
  } catch (cause) {
    throw new UsageError(`The key file ${path} cannot be read: ${errorText(cause)}`, { cause });
  }
  try {
    return read(content.toString("utf8"));
  } finally {
    content.fill(0);
  }
}

/** Reads the key file, or makes one with a new key that only its owner can read. `undo` removes it again if it was made here. */
export async function readOrMakeKeyFile(
  path: string,
): Promise<{ readonly key: Buffer; readonly made: boolean; readonly undo: () => Promise<void> }> {
  const key = randomBytes(32);
  if (!(await writeKeyFile(path, formatKeyFile(key)))) return { key: await readKeyFile(path), made: false, undo: async () => undefined };
  return { key, made: true, undo: async () => await rm(path, { force: true }) };
}

/** Makes a key file that only its owner can read. Resolves with false where there is a file of that name already, which stays as it is. */
export async function writeKeyFile(path: string, content: string): Promise<boolean> {
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600).catch((cause: unknown) => {
    if (cause instanceof Error && "code" in cause && cause.code === "EEXIST") return null;
    throw new UsageError(`The key file ${path} cannot be made: ${errorText(cause)}`, { cause });
  });
  if (file === null) return false;
  try {
    await file.writeFile(content);
    await file.sync();
  } catch (cause) {
    // Half a key opens nothing, and the name is to be free again.
    await rm(path, { force: true });
    throw new UsageError(`The key file ${path} cannot be made: ${errorText(cause)}`, { cause });
  } finally {
    await file.close();
  }
  await syncDirectory(dirname(path));
  return true;
}

/** The name of a new key is to outlast a power cut before anything counts on the key. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY);
  // Some network and FUSE file systems have no such thing; they keep their own promises.
  await directory.sync().catch(() => undefined);
  await directory.close();
}
