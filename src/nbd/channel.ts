import { NbdError } from "./errors.ts";
import { type Address, type NbdLibrary, nbdLibrary } from "./native.ts";

const WAKE_MS = 1000; // how long one wait on the socket may last before its state is looked at again

/**
 * One libnbd handle and the rules for touching it: one user at a time, no synchronous call while an asynchronous one is under way, and
 * no return before libnbd has let go of the buffers it was given. An abort breaks the connection, as NBD cannot take a request back.
 */
export class NbdChannel {
  readonly library: NbdLibrary;
  readonly name: string;
  #handle: Address | null;
  #closing: Promise<void> | undefined;
  #fd = -1;
  #users = 0;
  #tail: Promise<unknown> = Promise.resolve();
  #severed = false;

  constructor(name: string) {
    this.name = name;
    this.library = nbdLibrary();
    this.#handle = this.library.create();
    if (this.#handle === null) throw this.error("io");
  }

  /** The handle; throws `closed` after `close`. */
  get handle(): Address {
    if (this.#handle === null) throw new NbdError("closed", `the NBD connection to ${this.name} is closed`);
    return this.#handle;
  }

  /** Whether an abort broke this connection. */
  get severed(): boolean {
    return this.#severed;
  }

  /** Runs `use` when every earlier user is done. Rejects with the signal's reason once it is aborted, after `use` has ended. */
  exclusive<T>(signal: AbortSignal | undefined, use: () => Promise<T>): Promise<T> {
    this.#users += 1;
    const run = this.#tail.then(() => this.#guarded(signal, use)).finally(() => (this.#users -= 1));
    this.#tail = run.catch(() => undefined);
    return run;
  }

  async #guarded<T>(signal: AbortSignal | undefined, use: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    void this.handle;
    if (this.#severed) throw new NbdError("disconnected", `the NBD connection to ${this.name} was broken off by an abort`);
    const sever = (): void => this.#sever();
    signal?.addEventListener("abort", sever, { once: true });
    try {
      const value = await use();
      signal?.throwIfAborted();
      return value;
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener("abort", sever);
    }
  }

  #sever(): void {
    this.#severed = true;
    if (this.#fd >= 0) this.library.shutdown(this.#fd);
  }

  /** Drives the handshake to its end; to be called within `exclusive`. `begin` issues libnbd's connect call. */
  async connect(begin: (handle: Address) => number, signal: AbortSignal): Promise<void> {
    if (begin(this.handle) < 0) throw this.error("connect-failed");
    while (this.library.aio_is_ready(this.handle) !== 1) {
      if (this.#over()) throw this.error("connect-failed");
      signal.throwIfAborted();
      this.#fd = this.library.aio_get_fd(this.handle);
      if (this.#fd < 0 || (await this.#step()) < 0) throw this.error("connect-failed");
    }
    this.#fd = this.library.aio_get_fd(this.handle);
  }

  /** Waits until the command is done, all on this thread save the waiting; for commands that move few bytes. Within `exclusive`. */
  async drive(cookie: number, what: () => string): Promise<void> {
    if (cookie < 0) throw this.error("io", what());
    for (let broken = 0; ;) {
      const done = this.library.aio_command_completed(this.handle, cookie);
      if (done > 0) return;
      if (done < 0 || broken > 1) throw this.error("io", what());
      if ((await this.#step()) < 0) broken += 1;
    }
  }

  // The state machine advances on this thread, so that the reason of a failure can be asked for.
  async #step(): Promise<number> {
    await this.library.waitAsync(this.#fd, this.library.aio_get_direction(this.handle), WAKE_MS);
    return this.library.poll(this.handle, 0);
  }

  #over(): boolean {
    return this.library.aio_is_dead(this.handle) === 1 || this.library.aio_is_closed(this.handle) === 1;
  }

  /** The last failure of a synchronous libnbd call on this thread; on a dead connection an `io` error becomes `disconnected`. */
  error(code: "io" | "connect-failed", what = ""): NbdError {
    const text = this.library.get_error() ?? "unknown error";
    const dead = code === "io" && this.#handle !== null && this.#over();
    return new NbdError(dead ? "disconnected" : code, `NBD server ${this.name}: ${what === "" ? "" : `${what} failed: `}${text}`);
  }

  /** Ends the session and frees the handle, breaking off what is under way; safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    if (handle === null) return;
    if (this.#users > 0) this.#sever();
    else if (!this.#severed && this.library.aio_is_ready(handle) === 1) this.library.aio_disconnect(handle, 0);
    this.#handle = null;
    await this.#tail;
    this.library.close(handle);
  }
}
