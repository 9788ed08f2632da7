import { randomBytes } from "node:crypto";

import { type KeyRing, type NewKey, type Replaced, RepositoryError } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withKeyRing } from "../context.ts";
import { readPassphrase } from "../credential.ts";
import { ExitCode } from "../exit-codes.ts";
import { readOrMakeKeyFile } from "../key-file.ts";
import { UsageError } from "../usage-error.ts";

export interface KeyRotateFlags extends RepositoryFlags {
  readonly newKeyFile?: string;
  readonly newPassphraseFile?: string;
  readonly endSlots?: boolean;
  readonly finish?: boolean;
}

/** `thinstream key rotate`: a new repository key in the place of the old one. */
export async function keyRotate(flags: KeyRotateFlags, context: Context): Promise<Outcome> {
  const { newKeyFile, newPassphraseFile } = flags;
  const named = newKeyFile !== undefined || newPassphraseFile !== undefined;
  if (flags.finish === true && named) throw new UsageError("--finish goes on with the key that is there: it takes no new one");
  if (flags.finish !== true && !named)
    throw new UsageError("Say what is to open the repository then: --new-key-file FILE, --new-passphrase-file FILE, or both");
  return await withKeyRing(flags, context, async (ring) => {
    if (flags.finish === true) return outcome(ring, await ring.endRotation(), "The repository key is");
    await requireEndOf(ring, flags.endSlots === true);
    return await withNewKey(flags, async (next) => outcome(ring, await ring.rotate(next), "The repository key was replaced; it is now"));
  });
}

/** A slot needs its passphrase or key file to be made anew, and those are their owners'. */
async function requireEndOf(ring: KeyRing, agreed: boolean): Promise<void> {
  const ending = (await ring.list()).filter(({ state }) => state === "opens");
  if (ending.length === 0 || agreed) return;
  const named = ending.map(({ id, label }) => (label === "" ? id : `${id} (${label})`)).join(", ");
  throw new UsageError(
    `The rotation would end ${ending.length === 1 ? "a slot" : `${ending.length} slots`} that let somebody in: ${named}`,
    {
      hint: "If that is meant, say --end-slots; their owners can be let in again afterwards with `thinstream key add`",
    },
  );
}

async function withNewKey<T>({ newKeyFile, newPassphraseFile }: KeyRotateFlags, work: (next: NewKey) => Promise<T>): Promise<T> {
  const passphrase = newPassphraseFile === undefined ? null : await readPassphrase(newPassphraseFile);
  const slot = passphrase === null ? null : { credential: passphrase, label: "" };
  passphrase?.requireNew();
  try {
    if (newKeyFile === undefined) return await withFresh(async (key) => await work({ key, slot }));
    return await withNewKeyFile(newKeyFile, async (key) => await work({ key, slot }));
  } finally {
    passphrase?.bytes.fill(0);
  }
}

async function withFresh<T>(work: (key: Buffer) => Promise<T>): Promise<T> {
  const key = randomBytes(32);
  return await work(key).finally(() => key.fill(0));
}

/** The file is removed again only where it is sure that its key opens nothing. */
async function withNewKeyFile<T>(path: string, work: (key: Buffer) => Promise<T>): Promise<T> {
  const { key, made, undo } = await readOrMakeKeyFile(path);
  try {
    if (!made)
      throw new UsageError(`${path} is there already: a rotation makes a key of its own`, { hint: "Name a file that does not exist" });
    return await work(key);
  } catch (thrown) {
    if (!mayCount(thrown)) await undo();
    throw thrown;
  } finally {
    key.fill(0);
  }
}

function mayCount(thrown: unknown): boolean {
  return thrown instanceof RepositoryError && (thrown.code === "rotation-unknown" || thrown.code === "rotation-unfinished");
}

function outcome(ring: KeyRing, { domains, removedSlots, keptSlots }: Replaced, said: string): Outcome {
  const kept = keptSlots.map(
    (id) => `The slot ${id} of an earlier key could not be removed: the store does not let these credentials delete`,
  );
  const lines = [
    `${said} ${ring.keyId}. Domain keys sealed anew: ${domains}. Slots that ended: ${removedSlots.length === 0 ? "none" : removedSlots.join(", ")}`,
    ...kept,
  ];
  return {
    json: { keyId: ring.keyId, rotations: ring.rotations, domains, endedSlots: removedSlots, warnings: kept },
    text: lines.join("\n"),
    exitCode: kept.length === 0 ? ExitCode.ok : ExitCode.warnings,
  };
}
