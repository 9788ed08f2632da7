import { abortable } from "../lib/abort.ts";
import { LibvirtError, type NativeError } from "./errors.ts";
import { type Address, type LibvirtFunction, type LibvirtLibrary, libvirtLibrary, type NativeResult } from "./native.ts";

// Opening has no connection to keep its error, so nothing else may raise one meanwhile.
let opening: Promise<unknown> = Promise.resolve();
const inFlight = new Set<Promise<unknown>>();

/**
 * One open connection to libvirt, and the rule for using it: one call at a time, so that the connection's last error is the error of
 * the call just made. An aborted signal ends the wait, not the call: libvirt cannot be interrupted, and later calls wait for it.
 */
export class LibvirtLink {
  readonly library: LibvirtLibrary;
  readonly uri: string;
  #connection: Address | null;
  #tail: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;
  readonly #objects: Map<Address, LibvirtFunction> = new Map();

  private constructor(uri: string, library: LibvirtLibrary, connection: Address) {
    this.uri = uri;
    this.library = library;
    this.#connection = connection;
  }

  static async open(uri: string, signal: AbortSignal | undefined): Promise<LibvirtLink> {
    const library = libvirtLibrary();
    const before = Promise.allSettled([opening, ...inFlight]);
    const attempt = before.then(async () => {
      signal?.throwIfAborted();
      const connection = await library.call("virConnectOpen", uri);
      if (typeof connection === "bigint") return new LibvirtLink(uri, library, connection);
      throw LibvirtError.of(`connecting to ${uri}`, library.lastError(null), "unreachable");
    });
    opening = attempt.catch(() => undefined);
    if (signal === undefined) return attempt;
    return abortable(attempt, signal).catch((error: unknown) => {
      attempt.then(
        (late) => late.close(),
        () => undefined,
      );
      throw error;
    });
  }

  /** The connection's native handle; throws `closed` after `close`. */
  get connection(): Address {
    if (this.#connection === null) throw new LibvirtError("closed", `the connection to ${this.uri} is closed`);
    return this.#connection;
  }

  /** Runs a call that gives a number; rejects when it is negative. `what` completes the sentence "… failed". */
  async number(what: string, signal: AbortSignal | undefined, name: LibvirtFunction, ...args: readonly unknown[]): Promise<number> {
    const call = this.#call(what, name, args, signal);
    return Number(await (signal === undefined ? call : abortable(call, signal)));
  }

  /** Runs a call that gives a text. */
  async text(what: string, signal: AbortSignal | undefined, name: LibvirtFunction, ...args: readonly unknown[]): Promise<string> {
    const call = this.#call(what, name, args, signal);
    return String(await (signal === undefined ? call : abortable(call, signal)));
  }

  /** Runs a call that gives an object, and keeps it until `release` (or `close`) frees it with `free`. */
  async object(what: string, free: LibvirtFunction, name: LibvirtFunction, ...args: readonly unknown[]): Promise<Address> {
    const result = (await this.#call(what, name, args, undefined)) as Address;
    this.keep(result, free);
    return result;
  }

  keep(object: Address, free: LibvirtFunction): void {
    this.#objects.set(object, free);
  }

  /** Frees an object; does nothing where it is freed already. */
  async release(object: Address): Promise<void> {
    const free = this.#objects.get(object);
    this.#objects.delete(object);
    if (free !== undefined && this.#connection !== null) await this.#queue(() => this.library.call(free, object));
  }

  #call(what: string, name: LibvirtFunction, args: readonly unknown[], signal: AbortSignal | undefined): Promise<NativeResult> {
    return this.#queue(async () => {
      signal?.throwIfAborted();
      const connection = this.connection;
      this.library.resetError(connection);
      const result = await this.library.call(name, ...args);
      if (result === null || (typeof result === "number" && result < 0)) throw this.#failure(what, this.library.lastError(connection));
      return result;
    });
  }

  #failure(what: string, native: NativeError | undefined): LibvirtError {
    // Errors of VIR_FROM_RPC (7) are about the connection: the daemon went away under us.
    const gone = native?.domain === 7;
    return LibvirtError.of(what, native, gone ? "unreachable" : "failed");
  }

  async #queue<T>(use: () => Promise<T>): Promise<T> {
    const run = Promise.all([this.#tail, opening]).then(use);
    const settled = run.then(
      () => undefined,
      () => undefined,
    );
    this.#tail = settled;
    inFlight.add(settled);
    void settled.then(() => inFlight.delete(settled));
    return run;
  }

  /** Waits for the call under way, frees every object and closes; safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const connection = this.#connection;
    if (connection === null) return;
    this.#connection = null;
    await this.#queue(async () => {
      for (const [object, free] of this.#objects) await this.library.call(free, object);
      this.#objects.clear();
      await this.library.call("virConnectClose", connection);
    });
  }
}
