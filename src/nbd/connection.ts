import { setImmediate as nextTurn } from "node:timers/promises";
import { NbdChannel } from "./channel.ts";
import { NbdError } from "./errors.ts";
import type { StatusEntries } from "./extents.ts";
import { type Address, noClosure } from "./native.ts";

/** How to reach an export: a URI (`nbd+unix:///vda?socket=/x`), or a unix socket and the export's name. */
export type NbdAddress = { readonly uri: string } | { readonly socket: string; readonly exportName?: string };

export interface NbdOpenOptions {
  /** Meta contexts that must be there, e.g. `base:allocation`; an absent one rejects with `context-missing`. A connection for data needs none. */
  readonly metaContexts?: readonly string[];
  readonly signal?: AbortSignal;
  /** ms until the handshake must be over; default 20000 */
  readonly connectTimeout?: number;
}

/** What the server said of the export; sizes in bytes. */
export interface NbdExportInfo {
  readonly size: number;
  readonly minimumBlock: number;
  readonly preferredBlock: number;
  readonly maximumBlock: number;
  readonly readOnly: boolean;
  readonly canMultiConn: boolean;
  readonly canZero: boolean;
  readonly canFastZero: boolean;
  readonly canTrim: boolean;
  readonly canFlush: boolean;
  readonly metaContexts: readonly string[];
}

export interface NbdRead {
  /** bytes */
  readonly offset: number;
  readonly into: Uint8Array;
}

export interface NbdWrite {
  /** bytes */
  readonly offset: number;
  readonly from: Uint8Array;
}

/** Requests that may be in flight on one connection: QEMU's own limit for a client. */
export const IN_FLIGHT = 16;
/** bytes of one request on the wire; small enough to stay in the CPU caches on its way, large enough to make the calls cheap */
export const PIECE: number = 256 * 1024;

const MAX_SPAN = 2 ** 30; // bytes of one zero or trim request; a multiple of every block size
const NO_HOLE = 2; // LIBNBD_CMD_FLAG_NO_HOLE

/**
 * One connection to an NBD export. Calls are carried out one after the other; `NbdPool` spreads them over several connections.
 * Every method rejects with an `NbdError`, or with the reason of an aborted signal, which also breaks this connection.
 */
export class NbdConnection {
  readonly info: NbdExportInfo;
  readonly #channel: NbdChannel;

  private constructor(channel: NbdChannel, info: NbdExportInfo) {
    this.#channel = channel;
    this.info = info;
  }

  /** Connects and negotiates. Rejects `connect-failed`, `context-missing`, `timeout`, `library-missing`. */
  static async open(address: NbdAddress, options: NbdOpenOptions = {}): Promise<NbdConnection> {
    const channel = new NbdChannel("uri" in address ? address.uri : `${address.socket} export "${address.exportName ?? ""}"`);
    const timeout = options.connectTimeout ?? 20_000;
    const limit = AbortSignal.timeout(timeout);
    try {
      await handshake(channel, address, options, limit);
      return new NbdConnection(channel, exportInfo(channel, options.metaContexts ?? []));
    } catch (error) {
      await channel.close();
      if (limit.aborted && options.signal?.aborted !== true) {
        throw new NbdError("timeout", `NBD server ${channel.name} did not answer within ${timeout} ms`, { cause: error });
      }
      throw error;
    }
  }

  /** Whether an aborted call broke this connection. */
  get severed(): boolean {
    return this.#channel.severed;
  }

  /** Fills every request's buffer. Any alignment and length within the export will do. */
  async readMany(requests: readonly NbdRead[], signal?: AbortSignal): Promise<void> {
    for (const request of requests) checkRange(this.info, request.offset, request.into.length);
    const batches = batched(requests.flatMap((request) => readPieces(request, this.info)));
    for (const batch of batches) await this.#channel.exclusive(signal, () => this.#readBatch(batch));
  }

  async #readBatch(batch: readonly ReadPiece[]): Promise<void> {
    const { library, handle } = this.#channel;
    const last = batch.at(-1);
    if (last === undefined) return;
    const cookies = batch
      .slice(0, -1)
      .map((piece) => library.aio_pread(handle, piece.buffer, piece.buffer.length, piece.offset, noClosure, 0));
    // One blocking read on a pool thread carries the whole batch: while it waits for its own reply, libnbd takes in the others'.
    const ended = await library.preadAsync(handle, last.buffer, last.buffer.length, last.offset);
    // Its reason stayed on the other thread; asking again tells it (or cures it).
    if (ended < 0) cookies.push(library.aio_pread(this.#channel.handle, last.buffer, last.buffer.length, last.offset, noClosure, 0));
    await this.#settle(cookies, (index) => `reading ${describe(batch[index] ?? last)}`);
    for (const piece of batch) piece.finish?.();
  }

  /** Writes every buffer; offset and length must be multiples of `minimumBlock`, or end with the export. */
  async writeMany(requests: readonly NbdWrite[], signal?: AbortSignal): Promise<void> {
    for (const request of requests) this.#checkAligned(request.offset, request.from.length);
    const batches = batched(requests.flatMap((request) => writePieces(request, this.info)));
    for (const batch of batches) await this.#channel.exclusive(signal, () => this.#writeBatch(batch));
  }

  async #writeBatch(batch: readonly Piece[]): Promise<void> {
    const { library, handle } = this.#channel;
    const last = batch.at(-1);
    if (last === undefined) return;
    const cookies = batch
      .slice(0, -1)
      .map((piece) => library.aio_pwrite(handle, piece.buffer, piece.buffer.length, piece.offset, noClosure, 0));
    const ended = await library.pwriteAsync(handle, last.buffer, last.buffer.length, last.offset);
    if (ended < 0) cookies.push(library.aio_pwrite(this.#channel.handle, last.buffer, last.buffer.length, last.offset, noClosure, 0));
    await this.#settle(cookies, (index) => `writing ${describe(batch[index] ?? last)}`);
  }

  // All commands must have ended before this returns, as libnbd holds their buffers; the first failure is the one reported.
  async #settle(cookies: readonly number[], what: (index: number) => string): Promise<void> {
    const failures: unknown[] = [];
    for (const [index, cookie] of cookies.entries()) {
      await this.#channel.drive(cookie, () => what(index)).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Makes the range read as zeros; `noHole` also keeps it allocated. Rejects `unsupported` where the server cannot. */
  async zero(offset: number, length: number, options: { readonly noHole?: boolean; readonly signal?: AbortSignal } = {}): Promise<void> {
    if (!this.info.canZero) throw new NbdError("unsupported", `NBD server ${this.#channel.name} cannot write zeros`);
    const flags = options.noHole === true ? NO_HOLE : 0;
    await this.#spans(offset, length, options.signal, (handle, at, count) =>
      this.#channel.library.aio_zero(handle, count, at, noClosure, flags),
    );
  }

  /** Tells the server that the range's content is of no more use. Rejects `unsupported` where the server cannot. */
  async trim(offset: number, length: number, signal?: AbortSignal): Promise<void> {
    if (!this.info.canTrim) throw new NbdError("unsupported", `NBD server ${this.#channel.name} cannot trim`);
    await this.#spans(offset, length, signal, (handle, at, count) => this.#channel.library.aio_trim(handle, count, at, noClosure, 0));
  }

  /** Resolves when everything written is on stable storage; at once where the server has no volatile cache to speak of. */
  async flush(signal?: AbortSignal): Promise<void> {
    if (!this.info.canFlush) return;
    const { library } = this.#channel;
    await this.#channel.exclusive(signal, () => this.#channel.drive(library.aio_flush(this.#channel.handle, noClosure, 0), () => "flush"));
  }

  async #spans(offset: number, length: number, signal: AbortSignal | undefined, issue: SpanCall): Promise<void> {
    this.#checkAligned(offset, length);
    for (let at = offset; at < offset + length; at += MAX_SPAN) {
      const count = Math.min(MAX_SPAN, offset + length - at);
      const what = (): string => `changing ${count} bytes at ${at}`;
      await this.#channel.exclusive(signal, () => this.#channel.drive(issue(this.#channel.handle, at, count), what));
    }
  }

  /**
   * One block status request for `length` bytes from `offset`: the entries of every negotiated context, as the server gave them.
   * Contexts may cover different lengths.
   */
  async blockStatus(offset: number, length: number, signal?: AbortSignal): Promise<ReadonlyMap<string, StatusEntries>> {
    checkRange(this.info, offset, length);
    const entries = new Map<string, StatusEntries>();
    await this.#channel.exclusive(signal, () => this.#status(offset, length, entries));
    await nextTurn();
    return entries;
  }

  async #status(offset: number, length: number, entries: Map<string, StatusEntries>): Promise<void> {
    const { library } = this.#channel;
    const callback = library.registerExtents((...[, context, , address, count]) => {
      entries.set(context, decodeEntries(library.copy(address, library.has64BitStatus ? count * 16 : count * 4), library.has64BitStatus));
      return 0;
    });
    try {
      const cookie = library.aio_block_status(this.#channel.handle, length, offset, { ...noClosure, callback }, noClosure);
      await this.#channel.drive(cookie, () => `block status of ${length} bytes at ${offset}`);
    } finally {
      library.unregister(callback);
    }
  }

  #checkAligned(offset: number, length: number): void {
    checkRange(this.info, offset, length);
    const { minimumBlock, size } = this.info;
    const end = offset + length;
    if (offset % minimumBlock === 0 && (end % minimumBlock === 0 || end === size)) return;
    throw new NbdError("misaligned", `${length} bytes at ${offset} do not fit the server's blocks of ${minimumBlock} bytes`);
  }

  /** Ends the session and breaks off what is under way; safe to call twice. */
  close(): Promise<void> {
    return this.#channel.close();
  }
}

type SpanCall = (handle: Address, offset: number, count: number) => number;

interface Piece {
  readonly offset: number;
  readonly buffer: Uint8Array;
}

interface ReadPiece extends Piece {
  /** Copies what was read to where it was asked for, when the server's alignment forced a detour. */
  readonly finish?: () => void;
}

async function handshake(channel: NbdChannel, address: NbdAddress, options: NbdOpenOptions, limit: AbortSignal): Promise<void> {
  const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
  const { library, handle } = channel;
  for (const context of options.metaContexts ?? []) {
    if (library.add_meta_context(handle, context) < 0) throw channel.error("connect-failed");
  }
  // Buffers are reused and libnbd itself fails a read that the server did not fill, so clearing them first buys nothing.
  library.set_pread_initialize(handle, false);
  // Only block status needs them. With them QEMU looks every piece of a read up for holes: a quarter of its time where changes lie scattered.
  library.set_request_structured_replies(handle, (options.metaContexts ?? []).length > 0);
  if (!("uri" in address) && library.set_export_name(handle, address.exportName ?? "") < 0) throw channel.error("connect-failed");
  const begin = (at: Address): number =>
    "uri" in address ? library.aio_connect_uri(at, address.uri) : library.aio_connect_unix(at, address.socket);
  await channel.exclusive(signal, () => channel.connect(begin, signal));
}

function exportInfo(channel: NbdChannel, contexts: readonly string[]): NbdExportInfo {
  const { library, handle } = channel;
  const size = library.get_size(handle);
  if (size < 0) throw channel.error("connect-failed");
  for (const context of contexts) {
    if (library.can_meta_context(handle, context) === 1) continue;
    throw new NbdError("context-missing", `NBD server ${channel.name} does not offer the meta context "${context}"`);
  }
  return {
    size,
    minimumBlock: library.get_block_size(handle, 0) || 1,
    preferredBlock: library.get_block_size(handle, 1) || 4096,
    maximumBlock: library.get_block_size(handle, 2) || 32 * 1024 * 1024,
    readOnly: library.is_read_only(handle) === 1,
    canMultiConn: library.can_multi_conn(handle) === 1,
    canZero: library.can_zero(handle) === 1,
    canFastZero: library.can_fast_zero(handle) === 1,
    canTrim: library.can_trim(handle) === 1,
    canFlush: library.can_flush(handle) === 1,
    metaContexts: contexts,
  };
}

function decodeEntries(bytes: ArrayBuffer, wide: boolean): StatusEntries {
  if (!wide) return new Float64Array(new Uint32Array(bytes));
  // Lengths and flags beyond 2^53 are of no server; lengths that large fail the checks on extents.
  const halves = new Uint32Array(bytes);
  const entries = new Float64Array(halves.length / 2);
  for (let index = 0; index < entries.length; index += 1)
    entries[index] = (halves[2 * index] ?? 0) + (halves[2 * index + 1] ?? 0) * 2 ** 32;
  return entries;
}

function checkRange(info: NbdExportInfo, offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && length > 0 && offset + length <= info.size) return;
  throw new NbdError("out-of-range", `${length} bytes at ${offset} are not within the export of ${info.size} bytes`);
}

function* batched<T>(pieces: readonly T[]): Generator<readonly T[], void, undefined> {
  for (let at = 0; at < pieces.length; at += IN_FLIGHT) yield pieces.slice(at, at + IN_FLIGHT);
}

function pieceSize(info: NbdExportInfo): number {
  const size = Math.min(PIECE, info.maximumBlock);
  return Math.max(info.minimumBlock, size - (size % info.minimumBlock));
}

function readPieces(request: NbdRead, info: NbdExportInfo): ReadPiece[] {
  const { minimumBlock, size } = info;
  const head = request.offset % minimumBlock;
  const end = request.offset + request.into.length;
  const padded = Math.min(size, Math.ceil(end / minimumBlock) * minimumBlock);
  if (head === 0 && padded === end) return split(request.offset, request.into, pieceSize(info));
  const detour = new Uint8Array(padded - (request.offset - head));
  const pieces: ReadPiece[] = split(request.offset - head, detour, pieceSize(info));
  const finish = (): void => request.into.set(detour.subarray(head, head + request.into.length));
  return pieces.map((piece, index) => (index === pieces.length - 1 ? { ...piece, finish } : piece));
}

function writePieces(request: NbdWrite, info: NbdExportInfo): Piece[] {
  return split(request.offset, request.from, pieceSize(info));
}

function split(offset: number, buffer: Uint8Array, step: number): Piece[] {
  if (buffer.length <= step) return [{ offset, buffer }];
  const pieces: Piece[] = [];
  for (let at = 0; at < buffer.length; at += step) pieces.push({ offset: offset + at, buffer: buffer.subarray(at, at + step) });
  return pieces;
}

function describe(piece: Piece): string {
  return `${piece.buffer.length} bytes at ${piece.offset}`;
}
