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
import { type ByteRange, deviceExtents, DIRTY_FLAG, type NbdExtent, replyRuns, RunMerger, type StatusRun, ZERO_FLAG } from "./extents.ts";

export interface NbdPoolOptions extends Omit<NbdOpenOptions, "metaContexts"> {
  /** connections that carry data where the server allows several; default 4 */
  readonly connections?: number;
  /** For `extents`: the meta context of a bitmap that says what changed, or null where there is none. Without it the pool carries data alone. */
  readonly status?: { readonly bitmap: string | null };
}

export interface ExtentOptions {
  /** bytes; default: the whole export */
  readonly range?: ByteRange;
  /** bytes; from here on nothing is clean, whatever the bitmap says. Default: the size */
  readonly cleanEnd?: number;
  readonly signal?: AbortSignal;
}

/** Connections that only ask for block status, each for one context: a server works out every context that a connection has negotiated. */
interface StatusConnections {
  readonly allocation: NbdConnection;
  /** null: no bitmap was asked for */
  readonly bitmap: NbdConnection | null;
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
  readonly #status: StatusConnections | null;
  #count: number;
  #closed = false;

  private constructor(connections: readonly NbdConnection[], status: StatusConnections | null, open: () => Promise<NbdConnection>) {
    this.info = (connections[0] as NbdConnection).info;
    this.#open = open;
    this.#status = status;
    this.#limit = connections.length;
    this.#count = connections.length;
    this.#idle.push(...connections);
    for (const connection of connections) this.#all.add(connection);
  }

  /** Connects; rejects as `NbdConnection.open` does, leaving nothing open. */
  static async open(address: NbdAddress, options: NbdPoolOptions = {}): Promise<NbdPool> {
    const { status: asked, connections: wanted = 4, signal, ...rest } = options;
    const opened: NbdConnection[] = [];
    const open = async (metaContexts: readonly string[]): Promise<NbdConnection> => {
      const connection = await NbdConnection.open(address, { ...rest, metaContexts, ...(signal === undefined ? {} : { signal }) });
      opened.push(connection);
      return connection;
    };
    try {
      const allocation = asked === undefined ? null : await open([ALLOCATION]);
      const bitmap = asked === undefined || asked.bitmap === null ? null : await open([asked.bitmap]);
      const status = allocation === null ? null : { allocation, bitmap };
      const first = await open([]);
      const more = first.info.canMultiConn ? Math.max(1, wanted) - 1 : 0;
      const others = await Promise.allSettled(Array.from({ length: more }, () => open([])));
      // A server may admit fewer clients than it says; one connection is enough to go on.
      signal?.throwIfAborted();
      const connections = [first, ...others.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []))];
      return new NbdPool(connections, status, () => NbdConnection.open(address, rest));
    } catch (error) {
      await Promise.all(opened.map((connection) => connection.close()));
      throw error;
    }
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
   * The states of the export in order; memory use is that of one reply. With a bitmap, what it does not name is clean.
   * Rejects `bad-reply` when the server's answers leave a gap or make no progress.
   */
  extents({ range, cleanEnd = Infinity, signal }: ExtentOptions = {}): AsyncGenerator<NbdExtent, void, undefined> {
    if (this.#status === null) throw new NbdError("unsupported", "these NBD connections were opened for data alone");
    const { allocation, bitmap } = this.#status;
    const runsOf =
      (connection: NbdConnection, mask: number) =>
      (part: ByteRange): AsyncGenerator<StatusRun> =>
        statusRuns({ connection, mask, signal }, part);
    return deviceExtents({
      range: range ?? { offset: 0, length: this.info.size },
      cleanEnd,
      allocation: runsOf(allocation, ZERO_FLAG),
      dirty: bitmap === null ? null : runsOf(bitmap, DIRTY_FLAG),
    });
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
    const status = [this.#status?.allocation, this.#status?.bitmap].filter((one) => one !== undefined && one !== null);
    await Promise.all([...status, ...this.#all].map((connection) => connection.close()));
  }
}

/** What one context says of a range, neighbours joined; other events of this process get their turn meanwhile. */
async function* statusRuns(
  { connection, mask, signal }: { readonly connection: NbdConnection; readonly mask: number; readonly signal: AbortSignal | undefined },
  range: ByteRange,
): AsyncGenerator<StatusRun, void, undefined> {
  const context = connection.info.metaContexts[0] ?? "";
  const merger = new RunMerger();
  const end = range.offset + range.length;
  let handed = 0;
  let turn = performance.now();
  for (let offset = range.offset; offset < end;) {
    const entries = (await connection.blockStatus(offset, Math.min(end - offset, STATUS_SPAN_32), signal)).get(context);
    if (entries === undefined) throw new NbdError("bad-reply", `block status at byte ${offset} came without ${context}`);
    for (const run of replyRuns({ offset, end, entries, context, mask })) {
      offset = run.offset + run.length;
      const ended = merger.push(run);
      if (ended !== undefined) yield ended;
      if (++handed % TURN_EXTENTS !== 0 || performance.now() - turn < TURN_MS) continue;
      await nextTurn();
      turn = performance.now();
    }
  }
  const rest = merger.flush();
  if (rest !== undefined) yield rest;
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
