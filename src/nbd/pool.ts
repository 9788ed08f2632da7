import { setImmediate as nextTurn } from "node:timers/promises";
import {
  IN_FLIGHT,
  NbdConnection,
  type NbdAddress,
  type NbdExportInfo,
  type NbdOpenOptions,
  type NbdRead,
  type NbdWrite,
  PIECE,
} from "./connection.ts";
import { NbdError } from "./errors.ts";
import { commonExtents, ExtentMerger, type NbdExtent } from "./extents.ts";

export interface NbdPoolOptions extends NbdOpenOptions {
  /** connections where the server allows several; default 4 */
  readonly connections?: number;
}

export interface ExtentOptions {
  /** Meta context of the bitmap that says what changed; without one nothing is clean. */
  readonly dirty?: string;
  /** bytes; from here on nothing is clean, whatever the bitmap says */
  readonly cleanEnd?: number;
  readonly signal?: AbortSignal;
}

/** The context of block status that is always there. */
export const ALLOCATION = "base:allocation";

const STATUS_SPAN_32 = 2 ** 32 - 2 ** 20; // bytes; what a 32-bit block status request can ask for, in whole MiB
const TURN_MS = 3; // how long extents are handed out before other events of this process get their turn
const TURN_EXTENTS = 128; // and how often the clock is looked at

/**
 * Several connections to one export. Any number of calls may be in flight; each is cut into batches that idle connections take.
 * A connection broken by one call's abort is replaced at need; one that the server ended fails every later call.
 */
export class NbdPool {
  readonly info: NbdExportInfo;
  readonly #open: () => Promise<NbdConnection>;
  readonly #limit: number;
  readonly #all: Set<NbdConnection> = new Set();
  readonly #idle: NbdConnection[] = [];
  readonly #waiting: (() => void)[] = [];
  #count: number;
  #closed = false;

  private constructor(connections: readonly NbdConnection[], info: NbdExportInfo, open: () => Promise<NbdConnection>) {
    this.info = info;
    this.#open = open;
    this.#limit = connections.length;
    this.#count = connections.length;
    this.#idle.push(...connections);
    for (const connection of connections) this.#all.add(connection);
  }

  /** Connects; rejects as `NbdConnection.open` does, leaving nothing open. */
  static async open(address: NbdAddress, options: NbdPoolOptions = {}): Promise<NbdPool> {
    const first = await NbdConnection.open(address, options);
    const more = first.info.canMultiConn ? Math.max(1, options.connections ?? 4) - 1 : 0;
    const opened = await Promise.allSettled(Array.from({ length: more }, () => NbdConnection.open(address, options)));
    const connections = [first, ...opened.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []))];
    // A server may admit fewer clients than it says; one connection is enough to go on.
    options.signal?.throwIfAborted();
    const { signal: _opening, ...rest } = options;
    return new NbdPool(connections, first.info, () => NbdConnection.open(address, rest));
  }

  /** Fills every request's buffer; see `NbdConnection.readMany`. */
  async read(requests: readonly NbdRead[], signal?: AbortSignal): Promise<void> {
    const batches = gather(requests, (request) => request.into.length);
    await this.#each(batches, signal, (connection, batch) => connection.readMany(batch, signal));
  }

  /** Writes every buffer; see `NbdConnection.writeMany`. */
  async write(requests: readonly NbdWrite[], signal?: AbortSignal): Promise<void> {
    const batches = gather(requests, (request) => request.from.length);
    await this.#each(batches, signal, (connection, batch) => connection.writeMany(batch, signal));
  }

  /** See `NbdConnection.zero`. */
  zero(offset: number, length: number, options: { readonly noHole?: boolean; readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#with(options.signal, (connection) => connection.zero(offset, length, options));
  }

  /** See `NbdConnection.trim`. */
  trim(offset: number, length: number, signal?: AbortSignal): Promise<void> {
    return this.#with(signal, (connection) => connection.trim(offset, length, signal));
  }

  /** Resolves when what every connection wrote is on stable storage. */
  flush(signal?: AbortSignal): Promise<void> {
    // With multi-conn a flush on one connection covers the writes of all, by the NBD specification.
    return this.#with(signal, (connection) => connection.flush(signal));
  }

  /**
   * The states of the whole export in order, neighbours of equal state joined; memory use is that of one reply.
   * The bitmap's context and `base:allocation` must be among the pool's `metaContexts`.
   * Rejects `bad-reply` when the server's answers leave a gap or make no progress.
   */
  async *extents(options: ExtentOptions = {}): AsyncGenerator<NbdExtent, void, undefined> {
    const merger = new ExtentMerger();
    let handed = 0;
    let turn = performance.now();
    for (let offset = 0; offset < this.info.size;) {
      for (const extent of await this.#statusAt(offset, options)) {
        offset = extent.offset + extent.length;
        const ended = merger.push(extent.offset, extent.length, extent.state);
        if (ended !== undefined) yield ended;
        if (++handed % TURN_EXTENTS !== 0 || performance.now() - turn < TURN_MS) continue;
        await nextTurn();
        turn = performance.now();
      }
    }
    const rest = merger.flush();
    if (rest !== undefined) yield rest;
  }

  async #statusAt(offset: number, { dirty, signal, cleanEnd }: ExtentOptions): Promise<Generator<NbdExtent>> {
    const { size } = this.info;
    const length = Math.min(size - offset, STATUS_SPAN_32);
    const reply = await this.#with(signal, (connection) => connection.blockStatus(offset, length, signal));
    const allocation = reply.get(ALLOCATION);
    const bitmap = dirty === undefined ? null : reply.get(dirty);
    if (allocation === undefined || bitmap === undefined) {
      throw new NbdError(
        "bad-reply",
        `block status at byte ${offset} came without ${allocation === undefined ? ALLOCATION : String(dirty)}`,
      );
    }
    return commonExtents({ offset, size, allocation, dirty: bitmap, cleanEnd: cleanEnd ?? size });
  }

  // Every batch ends before this does, also after a failure: the caller owns the buffers again then.
  async #each<T>(
    batches: readonly T[],
    signal: AbortSignal | undefined,
    use: (connection: NbdConnection, batch: T) => Promise<void>,
  ): Promise<void> {
    const only = batches[0];
    if (only !== undefined && batches.length === 1) return this.#with(signal, (connection) => use(connection, only));
    const results = await Promise.allSettled(batches.map((batch) => this.#with(signal, (connection) => use(connection, batch))));
    const failed = results.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async #with<T>(signal: AbortSignal | undefined, use: (connection: NbdConnection) => Promise<T>): Promise<T> {
    const connection = await this.#acquire(signal);
    try {
      return await use(connection);
    } finally {
      this.#release(connection);
    }
  }

  async #acquire(signal: AbortSignal | undefined): Promise<NbdConnection> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#closed) throw new NbdError("closed", "the NBD connections are closed");
      const idle = this.#idle.pop();
      if (idle !== undefined) return idle;
      if (this.#count < this.#limit) return this.#replace();
      await this.#freed(signal);
    }
  }

  async #freed(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    const wake = (): void => resolve();
    signal?.addEventListener("abort", wake, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", wake);
      const at = this.#waiting.indexOf(resolve);
      // Woken by a connection as well as by the abort: the next in line must hear of it.
      if (at >= 0) this.#waiting.splice(at, 1);
      else if (signal?.aborted === true) this.#waiting.shift()?.();
    }
  }

  async #replace(): Promise<NbdConnection> {
    this.#count += 1;
    try {
      const connection = await this.#open();
      this.#all.add(connection);
      if (this.#closed) await connection.close();
      return connection;
    } catch (error) {
      this.#count -= 1;
      this.#waiting.shift()?.();
      throw error;
    }
  }

  #release(connection: NbdConnection): void {
    if (connection.severed) {
      this.#count -= 1;
      this.#all.delete(connection);
      void connection.close();
    } else {
      this.#idle.push(connection);
    }
    this.#waiting.shift()?.();
  }

  /** Ends every session and breaks off what is under way; safe to call twice. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) wake();
    await Promise.all(Array.from(this.#all, (connection) => connection.close()));
  }
}

// Batches as one connection takes them at once; a request larger than a batch is one by itself.
function gather<T>(requests: readonly T[], lengthOf: (request: T) => number): T[][] {
  const batches: T[][] = [];
  let open: T[] = [];
  let pieces = 0;
  for (const request of requests) {
    const add = Math.max(1, Math.ceil(lengthOf(request) / PIECE));
    if (open.length > 0 && pieces + add > IN_FLIGHT) {
      batches.push(open);
      open = [];
      pieces = 0;
    }
    open.push(request);
    pieces += add;
  }
  if (open.length > 0) batches.push(open);
  return batches;
}
