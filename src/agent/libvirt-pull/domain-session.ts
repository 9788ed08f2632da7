import { setTimeout as sleep } from "node:timers/promises";
import { LibvirtConnection, type LibvirtDomain, LibvirtError } from "../../libvirt/index.ts";
import { SourceError } from "../errors.ts";

const RECONNECTS = 10;
const RECONNECT_MS = 1000;

/** A connection and the domain looked up on it; both are made anew when the daemon went away and came back. */
export class DomainSession {
  readonly #uri: string;
  readonly #name: string;
  #connection: LibvirtConnection;
  #domain: LibvirtDomain;
  #closed = false;

  private constructor(target: { readonly uri: string; readonly domain: string }, connection: LibvirtConnection, domain: LibvirtDomain) {
    this.#uri = target.uri;
    this.#name = target.domain;
    this.#connection = connection;
    this.#domain = domain;
  }

  /** Rejects `no-domain`, and as `LibvirtConnection.connect` does. */
  static async open(target: { readonly uri: string; readonly domain: string; readonly signal: AbortSignal }): Promise<DomainSession> {
    const connection = await LibvirtConnection.connect(target.uri, { signal: target.signal });
    try {
      return new DomainSession(target, connection, await lookup(connection, target.domain));
    } catch (error) {
      await connection.close();
      throw error;
    }
  }

  get connection(): LibvirtConnection {
    return this.#connection;
  }

  get domain(): LibvirtDomain {
    return this.#domain;
  }

  /** Runs `use`, and once more on a new connection when the daemon was gone. For the end of a run, where giving up would leave things behind. */
  async insist<T>(use: (domain: LibvirtDomain) => Promise<T>): Promise<T> {
    try {
      return await use(this.#domain);
    } catch (error) {
      if (this.#closed || !(error instanceof LibvirtError) || error.code !== "unreachable") throw error;
      await this.#reconnect(error);
      return use(this.#domain);
    }
  }

  async #reconnect(cause: LibvirtError): Promise<void> {
    await this.#connection.close();
    for (let tries = 0; tries < RECONNECTS; tries += 1) {
      await sleep(RECONNECT_MS);
      try {
        this.#connection = await LibvirtConnection.connect(this.#uri);
        this.#domain = await lookup(this.#connection, this.#name);
        return;
      } catch (error) {
        if (!(error instanceof LibvirtError) || error.code !== "unreachable") throw error;
      }
    }
    throw cause;
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#connection.close();
  }
}

async function lookup(connection: LibvirtConnection, name: string): Promise<LibvirtDomain> {
  try {
    return await connection.lookupByName(name);
  } catch (error) {
    if (!(error instanceof LibvirtError) || error.code !== "no-domain") throw error;
    throw new SourceError("no-domain", `there is no domain "${name}"`, { cause: error, hint: "virsh list --all shows those there are" });
  }
}
