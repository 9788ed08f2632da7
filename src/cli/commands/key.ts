import { KeyRing, type SlotCredential, type SlotView } from "../../repository/index.ts";
import { type Context, type Outcome, type RepositoryFlags, withKeyRing } from "../context.ts";
import { readPassphrase } from "../credential.ts";
import { ExitCode } from "../exit-codes.ts";
import { readOrMakeKeyFile } from "../key-file.ts";
import { table } from "../table.ts";
import { UsageError } from "../usage-error.ts";

/** `thinstream key list`: every way in that is known. */
export async function keyList(flags: RepositoryFlags, context: Context): Promise<Outcome> {
  return await withKeyRing(flags, context, async (ring) => {
    const slots = await ring.list();
    const left = await ring.leftToSeal();
    const warnings = [
      ...slots.map(({ detail }) => detail).filter((detail) => detail !== ""),
      ...(left === 0
        ? []
        : [
            `The last rotation was interrupted: ${left} domain keys are still under an earlier key. \`thinstream key rotate --finish\` does the rest`,
          ]),
    ];
    const rows = slots.map(({ id, kind, label, created, state }) => [
      id,
      kind ?? "?",
      label,
      created ?? "",
      id === ring.openedBy ? `${state}, used now` : state,
    ]);
    const key = `Repository key ${ring.keyId}${replaced(ring)}: its key file opens the repository${ring.openedBy === null ? ", and did now" : ""}`;
    return {
      json: { keyId: ring.keyId, rotations: ring.rotations, openedBy: ring.openedBy, slots, warnings },
      text: [key, rows.length === 0 ? "No key slots" : table(["SLOT", "KIND", "LABEL", "CREATED", "STATE"], rows), ...warnings].join("\n"),
      exitCode: warnings.length === 0 ? ExitCode.ok : ExitCode.warnings,
    };
  });
}

function replaced({ rotations }: KeyRing): string {
  return rotations === 0 ? "" : ` (rotated ${rotations === 1 ? "once" : `${rotations} times`})`;
}

export interface KeyAddFlags extends RepositoryFlags {
  readonly newPassphraseFile?: string;
  readonly newKeyFile?: string;
  readonly label: string;
}

/** `thinstream key add`: another way in. */
export async function keyAdd(flags: KeyAddFlags, context: Context): Promise<Outcome> {
  return await withKeyRing(flags, context, async (ring) => {
    return await withNew(flags, async (credential, said) => {
      const id = await ring.add(credential, flags.label);
      return { json: { slot: id }, text: `${said} opens the repository now: slot ${id}`, exitCode: ExitCode.ok };
    });
  });
}

/** A key file that was made for it is removed again where the work fails. */
async function withNew<T>(flags: KeyAddFlags, work: (credential: SlotCredential, said: string) => Promise<T>): Promise<T> {
  const { newKeyFile, newPassphraseFile } = flags;
  if ((newKeyFile === undefined) === (newPassphraseFile === undefined))
    throw new UsageError("Say what is to open the repository: --new-key-file FILE or --new-passphrase-file FILE");
  if (newPassphraseFile !== undefined) {
    const passphrase = await readPassphrase(newPassphraseFile);
    return await work(passphrase, `The passphrase in ${newPassphraseFile}`).finally(() => passphrase.bytes.fill(0));
  }
  const path = newKeyFile ?? "";
  const { key, made, undo } = await readOrMakeKeyFile(path);
  try {
    return await work(key, `The key file ${path}${made ? " (new)" : ""}`);
  } catch (thrown) {
    await undo();
    throw thrown;
  } finally {
    key.fill(0);
  }
}

export interface KeyRemoveFlags extends RepositoryFlags {
  readonly slot: string;
  readonly lastWayIn?: boolean;
}

/** `thinstream key remove`: one way in less. Needs the right to delete in the store. */
export async function keyRemove(flags: KeyRemoveFlags, context: Context): Promise<Outcome> {
  return await withKeyRing(flags, context, async (ring) => {
    const left = await ring.remove(flags.slot, { lastWayIn: flags.lastWayIn === true });
    return {
      json: { removed: flags.slot, keyId: ring.keyId, left: left.map(({ id }) => id) },
      text: [`Removed the slot ${flags.slot}`, whoIsLeft(ring, left), AFTER].join("\n"),
      exitCode: ExitCode.ok,
    };
  });
}

const AFTER =
  "Who has a copy of the slot can still open the repository with what the slot was for: if that is no longer secret, replace the key with `thinstream key rotate`";

function whoIsLeft({ keyId }: KeyRing, left: readonly SlotView[]): string {
  const slots = left.map(({ id, label }) => (label === "" ? id : `${id} (${label})`));
  const also = slots.length === 0 ? "; no slot is left" : ` and by ${slots.join(", ")}`;
  return `The repository is opened by the key file of its key ${keyId}${also}`;
}
