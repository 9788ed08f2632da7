import { LibvirtDomain } from "./domain.ts";
import { LibvirtLink } from "./link.ts";

/** How many of libvirt's version units make a major, minor and release. */
const MINOR = 1000;

/** A version as libvirt counts: 9.0.0 is 9000000. */
export function versionText(version: number): string {
  return [Math.floor(version / (MINOR * MINOR)), Math.floor(version / MINOR) % MINOR, version % MINOR].join(".");
}

/**
 * A connection to a libvirt daemon. Calls are carried out one after the other. Every method rejects with a `LibvirtError`
 * (`closed` after `close`), or with the reason of an aborted signal, which ends the wait and not the call.
 */
export class LibvirtConnection {
  readonly #link: LibvirtLink;

  private constructor(link: LibvirtLink) {
    this.#link = link;
  }

  /** Connects to a URI such as `qemu:///system` or `qemu:///system?socket=/run/x`. Rejects `unreachable`, `access-denied`, `library-missing`. */
  static async connect(uri: string, options: { readonly signal?: AbortSignal } = {}): Promise<LibvirtConnection> {
    return new LibvirtConnection(await LibvirtLink.open(uri, options.signal));
  }

  /** The daemon's libvirt version (not the client library's), as libvirt counts: 9.0.0 is 9000000. */
  async libvirtVersion(signal?: AbortSignal): Promise<number> {
    return this.#version("virConnectGetLibVersion", "asking libvirt for its version", signal);
  }

  /** The hypervisor's version, as libvirt counts: QEMU 7.2.22 is 7002022. */
  async hypervisorVersion(signal?: AbortSignal): Promise<number> {
    return await this.#version("virConnectGetVersion", "asking for the hypervisor's version", signal);
  }

  /** libvirt's name of the hypervisor's driver: `QEMU`, `LXC`, `TEST`, … */
  async hypervisorType(signal?: AbortSignal): Promise<string> {
    return await this.#link.text("asking for the kind of hypervisor", signal, "virConnectGetType", this.#link.connection);
  }

  async #version(name: "virConnectGetLibVersion" | "virConnectGetVersion", what: string, signal: AbortSignal | undefined): Promise<number> {
    const out = new BigUint64Array(1);
    await this.#link.number(what, signal, name, this.#link.connection, out);
    return Number(out[0]);
  }

  /** Rejects `no-domain` where none has that name. */
  async lookupByName(name: string): Promise<LibvirtDomain> {
    const what = `finding domain "${name}"`;
    return new LibvirtDomain(
      this.#link,
      await this.#link.object(what, "virDomainFree", "virDomainLookupByName", this.#link.connection, name),
      name,
    );
  }

  /** Rejects `no-domain` where none has that UUID. */
  async lookupByUuid(uuid: string): Promise<LibvirtDomain> {
    const { connection } = this.#link;
    const what = `finding domain ${uuid}`;
    return new LibvirtDomain(
      this.#link,
      await this.#link.object(what, "virDomainFree", "virDomainLookupByUUIDString", connection, uuid),
      uuid,
    );
  }

  /** Makes a persistent domain, not running. Rejects `exists`, `invalid-xml`, `unsupported`. */
  async define(xml: string): Promise<LibvirtDomain> {
    const { connection } = this.#link;
    const object = await this.#link.object("defining the domain", "virDomainFree", "virDomainDefineXMLFlags", connection, xml, 0);
    return new LibvirtDomain(this.#link, object, "just defined");
  }

  /** Path of a storage volume. Rejects `no-storage`. */
  async volumePath(pool: string, volume: string): Promise<string> {
    const poolObject = await this.#link.object(
      `finding storage pool "${pool}"`,
      "virStoragePoolFree",
      "virStoragePoolLookupByName",
      this.#link.connection,
      pool,
    );
    try {
      const what = `finding volume "${volume}" of pool "${pool}"`;
      const object = await this.#link.object(what, "virStorageVolFree", "virStorageVolLookupByName", poolObject, volume);
      try {
        return await this.#link.text(what, undefined, "virStorageVolGetPath", object);
      } finally {
        await this.#link.release(object);
      }
    } finally {
      await this.#link.release(poolObject);
    }
  }

  /** Waits for the call under way, frees every domain and checkpoint and disconnects; safe to call twice. */
  close(): Promise<void> {
    return this.#link.close();
  }
}
