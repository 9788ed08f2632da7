import type { ObjectStore } from "../../objectstore/index.ts";
import { DocumentKind } from "../format/constants.ts";
import { type DocumentSeal, openDocument } from "../format/document.ts";
import { FormatError } from "../format/errors.ts";
import type { DomainKeys } from "../format/keys.ts";
import { headAt, POINTS } from "../layout.ts";
import { tryGet } from "../try-get.ts";

/** Points of a machine that are tried where its head says nothing. */
const MOST_TRIED = 16;

interface KnownDomain {
  readonly id: string;
  readonly keys: DomainKeys;
}

/**
 * Which domain a machine is of: a point does not say so, and the key that opens something of it does. One small request for each machine, and none for
 * those of destroyed domains, which are written down.
 */
export class Owners {
  readonly #store: ObjectStore;
  readonly #domains: readonly KnownDomain[];
  readonly #known: Map<string, string>;

  /** @param destroyed domains of machines that no key opens any more, by machine */
  constructor(store: ObjectStore, domains: readonly KnownDomain[], destroyed: ReadonlyMap<string, string> = new Map()) {
    this.#store = store;
    this.#domains = domains;
    this.#known = new Map(destroyed);
  }

  /** The id of the domain; null where none of the keys opens anything of the machine. */
  async of(vmId: string, signal?: AbortSignal): Promise<string | null> {
    const known = this.#known.get(vmId);
    if (known !== undefined) return known;
    const found = (await this.#openerOf(headAt(vmId), DocumentKind.head, signal)) ?? (await this.#byPoints(vmId, signal));
    // One that nobody knows may come to be known: its first point may be under way.
    if (found !== null) this.#known.set(vmId, found);
    return found;
  }

  async #byPoints(vmId: string, signal?: AbortSignal): Promise<string | null> {
    let tried = 0;
    for await (const { key } of this.#store.list(`${POINTS}${vmId}/`, signal === undefined ? {} : { signal })) {
      const found = await this.#openerOf(key, DocumentKind.point, signal);
      if (found !== null) return found;
      if (++tried >= MOST_TRIED) break;
    }
    return null;
  }

  async #openerOf(at: string, kind: DocumentKind, signal?: AbortSignal): Promise<string | null> {
    try {
      const bytes = await tryGet(this.#store, at, { maxBytes: 64 * 1024 * 1024, ...(signal === undefined ? {} : { signal }) });
      return bytes === null ? null : (this.#domains.find(({ keys }) => opens(bytes, { kind, key: keys.document, at }))?.id ?? null);
    } catch (thrown) {
      if (thrown instanceof FormatError) return null;
      throw thrown;
    }
  }
}

function opens(bytes: Uint8Array, seal: Omit<DocumentSeal, "encrypted">): boolean {
  try {
    openDocument(bytes, { ...seal, encrypted: true });
    return true;
  } catch (thrown) {
    if (thrown instanceof FormatError) return false;
    throw thrown;
  }
}
