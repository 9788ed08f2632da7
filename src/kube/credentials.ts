import type { Agent } from "node:http";

/** What TLS needs to know; it changes when certificates are renewed. */
export interface TlsMaterial {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly servername?: string | undefined;
  readonly rejectUnauthorized?: boolean | undefined;
}

/** Where the API server is and how to be let in, at this moment. */
export interface Access {
  readonly server: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsMaterial;
  /** Goes through a proxy; then it brings `tls` with it. */
  readonly proxy?: Agent | undefined;
}

/** Someone the cluster knows. Tokens rotate and certificates are renewed, so access is asked for anew with each call. */
export interface Credentials {
  /** The namespace of the pod, or of the kubeconfig's context. */
  readonly namespace: string | undefined;
  access(): Promise<Access>;
  /** The server did not take what `access` gave last: read everything anew. */
  refresh(): void;
}

/** Keeps what `read` gives for `ms`, or until told to forget it; callers at the same moment share one reading. */
export class Remembered<T> {
  readonly #read: () => Promise<T>;
  readonly #ms: number;
  #value: Promise<T> | null = null;
  #until = 0;

  constructor(ms: number, read: () => Promise<T>) {
    this.#ms = ms;
    this.#read = read;
  }

  get(): Promise<T> {
    if (this.#value !== null && performance.now() < this.#until) return this.#value;
    const value = this.#read();
    this.#value = value;
    this.#until = performance.now() + this.#ms;
    // A failure is not worth remembering; who asked gets it.
    value.catch(() => {
      if (this.#value === value) this.#value = null;
    });
    return value;
  }

  forget(): void {
    this.#value = null;
  }
}
