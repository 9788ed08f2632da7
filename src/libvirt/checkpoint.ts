import type { LibvirtLink } from "./link.ts";
import { LibvirtError } from "./errors.ts";
import type { Address } from "./native.ts";

/** A checkpoint of a domain; `close` frees it, as closing the connection does. */
export class LibvirtCheckpoint {
  readonly name: string;
  readonly #link: LibvirtLink;
  #object: Address | null;

  constructor(link: LibvirtLink, object: Address) {
    this.#link = link;
    this.#object = object;
    this.name = link.library.checkpointName(object);
  }

  get #handle(): Address {
    if (this.#object === null) throw new LibvirtError("closed", `checkpoint ${this.name} is closed`);
    return this.#object;
  }

  /** Its XML; with `size` also how many bytes changed since, per disk (the domain must run). */
  async xml(options: { readonly size?: boolean; readonly signal?: AbortSignal } = {}): Promise<string> {
    const flags = options.size === true ? 4 : 0; // VIR_DOMAIN_CHECKPOINT_XML_SIZE
    return await this.#link.text(`reading checkpoint ${this.name}`, options.signal, "virDomainCheckpointGetXMLDesc", this.#handle, flags);
  }

  /** Removes it, merging its bitmaps into its parent's; `metadataOnly` leaves the bitmaps alone. */
  async delete(options: { readonly metadataOnly?: boolean; readonly signal?: AbortSignal } = {}): Promise<void> {
    const flags = options.metadataOnly === true ? 2 : 0; // VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY
    await this.#link.number(`deleting checkpoint ${this.name}`, options.signal, "virDomainCheckpointDelete", this.#handle, flags);
  }

  async close(): Promise<void> {
    const object = this.#object;
    this.#object = null;
    if (object !== null) await this.#link.release(object);
  }
}
