import type { ObjectStore } from "../../objectstore/index.ts";
import { destroyDomain, type DestroyedDomain } from "../domains/destroy.ts";
import { type DomainView, exportDomain, listDomains } from "../domains/views.ts";
import { RepositoryError } from "../errors.ts";
import { keyIdOf } from "../format/keys.ts";
import { isGenuine, type Slot } from "../format/slot.ts";
import { slotAt } from "../layout.ts";
import { readConfig } from "../read-config.ts";
import type { Credential, SlotCredential } from "./credential.ts";
import { endRotation, leftToSeal, type NewKey, replaceKey, type Replaced } from "./rotate.ts";
import { isTaken, RepositoryKey } from "./repository-key.ts";
import { type DamagedSlot, isDamagedSlot, MAX_SLOTS, readSlot, readSlots, whyDamaged, writeSlot } from "./slot-store.ts";

export interface KeyAccess {
  readonly store: ObjectStore;
  readonly key: Credential;
  readonly signal: AbortSignal;
}

/**
 * `opens`: lets in; `replaced`: held a key that a rotation ended; `foreign`: holds a key that never was the repository's, so a rotation that was not
 * done left it or somebody planted it; `changed`: not as who had the key wrote it; `damaged`: cannot be read.
 */
export type SlotState = "opens" | "replaced" | "foreign" | "changed" | "damaged";

/** A way in, as `key list` shows it. */
export interface SlotView {
  readonly id: string;
  /** null where the slot cannot be read */
  readonly kind: "passphrase" | "key-file" | "kms" | null;
  readonly label: string;
  readonly created: string | null;
  readonly state: SlotState;
  /** what is wrong; empty where nothing is */
  readonly detail: string;
}

/** The ways into a repository. Holds the repository key until it is closed. */
export class KeyRing {
  readonly #access: KeyAccess;
  #key: RepositoryKey;

  private constructor(access: KeyAccess, key: RepositoryKey) {
    this.#access = access;
    this.#key = key;
  }

  /** Rejects as `Repository.open`, and `invalid` for a repository without encryption. */
  static async open(access: KeyAccess): Promise<KeyRing> {
    const claim = await readConfig(access.store, access);
    const key = await RepositoryKey.find(claim, access.key, access);
    if (key.config.encrypted) return new KeyRing(access, key);
    throw new RepositoryError("invalid", `The repository at ${access.store.url} is not encrypted: it has no keys`);
  }

  /** id of the repository key */
  get keyId(): string {
    return this.#key.keyId;
  }

  /** How often the key was replaced. */
  get rotations(): number {
    return this.#key.history.newest?.number ?? 0;
  }

  /** The slot that this ring was opened by; null: by the repository key itself. */
  get openedBy(): string | null {
    return this.#key.slot;
  }

  /** Every slot there is; one that is damaged or was changed says so. */
  async list(): Promise<SlotView[]> {
    return (await readSlots(this.#places)).map((slot) => this.#view(slot));
  }

  /** Makes a slot. Rejects `invalid` for the repository key itself, a key that has a slot, and a repository that has as many as there may be. */
  async add(credential: SlotCredential, label: string): Promise<string> {
    const slots = await readSlots(this.#places);
    if (slots.length >= MAX_SLOTS)
      throw new RepositoryError("invalid", `The repository has ${slots.length} key slots, as many as there may be`, {
        hint: "Remove one first",
      });
    if (credential instanceof Uint8Array) await this.#requireNew(credential);
    const id = await writeSlot(this.#places, { credential, label, key: this.#key.current }).catch((cause: unknown) => {
      if (!isTaken(cause)) throw cause;
      throw new RepositoryError("invalid", "This key file has a slot already", { cause });
    });
    await this.#key.requireCurrent();
    return id;
  }

  /**
   * Removes a slot. Rejects `invalid` for one that is not there, and, unless `lastWayIn`, where afterwards nothing that is known here would open the
   * repository: another slot, or the repository key if this ring was opened with it. Resolves with the slots that still do.
   */
  async remove(id: string, { lastWayIn = false }: { readonly lastWayIn?: boolean } = {}): Promise<readonly SlotView[]> {
    const slots = await this.list();
    if (!slots.some((slot) => slot.id === id)) {
      throw new RepositoryError("invalid", `There is no key slot ${id.slice(0, 64)} in the repository`, {
        hint: "`thinstream key list` lists what there is",
      });
    }
    const left = slots.filter((slot) => slot.id !== id && slot.state === "opens");
    if (left.length === 0 && this.openedBy !== null && !lastWayIn) {
      throw new RepositoryError(
        "invalid",
        `The slot ${id} is the last one: without it only the repository key itself (id ${this.keyId}) opens the repository`,
        {
          hint: "If you have a key file of that id, say --last-way-in, or open with it; else add another way first: without any nothing can be restored",
        },
      );
    }
    await this.#access.store.delete(slotAt(id), this.#access);
    return left;
  }

  /** Puts a new key in the place of the repository's, with no data rewritten (FORMAT.md §4.2). The ring holds the new one then. */
  async rotate(next: NewKey): Promise<Replaced> {
    const replaced = await replaceKey(this.#key, next, this.#access);
    this.#key.wipe();
    this.#key = replaced.key;
    return replaced.report;
  }

  /** How many domain keys an interrupted rotation has left sealed under an earlier key. */
  async leftToSeal(): Promise<number> {
    return await leftToSeal(this.#key, this.#access);
  }

  /** Does what an earlier rotation has left undone. */
  async endRotation(): Promise<Replaced> {
    return await endRotation(this.#key, this.#access);
  }

  /** Every domain there is or was. */
  async domains(): Promise<DomainView[]> {
    return await listDomains(this.#key, this.#access);
  }

  /** Makes all that is in a domain unreadable, and nothing else (FORMAT.md §4.3). Rejects `domain-unknown`, `point-held`. */
  async destroyDomain(name: string): Promise<DestroyedDomain> {
    return await destroyDomain(name, this.#key, this.#access);
  }

  /** The text of a key file that opens one domain. Rejects `domain-unknown`. */
  async exportDomain(name: string): Promise<string> {
    return await exportDomain(name, this.#key, this.#access);
  }

  /** Overwrites the key. */
  close(): void {
    this.#key.wipe();
  }

  get #places(): { store: ObjectStore; repositoryId: Uint8Array; signal: AbortSignal } {
    return { store: this.#access.store, signal: this.#access.signal, repositoryId: this.#key.config.id };
  }

  async #requireNew(credential: Uint8Array): Promise<void> {
    const id = keyIdOf(credential, this.#key.config.id);
    if (id === this.keyId)
      throw new RepositoryError("invalid", "This key file holds the repository key itself: it opens the repository already");
    const slot = await readSlot(id, this.#places);
    if (slot === null) return;
    throw new RepositoryError("invalid", `This key file has the slot ${id} already`, {
      hint: "If that slot is damaged or of an earlier key, remove it first",
    });
  }

  #view(slot: Slot | DamagedSlot): SlotView {
    if (isDamagedSlot(slot)) {
      const state = slot.error.code === "tampered" ? "changed" : "damaged";
      return { id: slot.id, kind: null, label: "", created: null, state, detail: whyDamaged(slot) };
    }
    const { state, detail } = this.#stateOf(slot);
    return { id: slot.id, kind: slot.way.kind, label: slot.label, created: slot.created, state, detail };
  }

  #stateOf(slot: Slot): { readonly state: SlotState; readonly detail: string } {
    const { current, config, history } = this.#key;
    if (slot.opens === this.keyId) {
      if (isGenuine(slot, current, config.id)) return { state: "opens", detail: "" };
      return { state: "changed", detail: `${slot.at} was changed or made by somebody without the repository key` };
    }
    if ([keyIdOf(this.#key.first, config.id), ...history.earlier].includes(slot.opens))
      return { state: "replaced", detail: `${slot.at} holds a key that was replaced` };
    return { state: "foreign", detail: `${slot.at} holds a key that is not the repository's` };
  }
}
