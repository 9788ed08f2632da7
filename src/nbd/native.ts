import koffi, { type LibraryHandle, type TypeObject } from "koffi";
import { NbdError } from "./errors.ts";

/*
 * libnbd.so.0 by koffi: the functions we use, under libnbd's own names without the `nbd_` prefix. Nothing is decided here.
 *
 * libnbd keeps the last error per thread. Calls marked async run on a thread of libuv's pool, so the reason of their failure is out
 * of reach; callers either learn it from a synchronous call afterwards or use only synchronous calls that do not block.
 */

/** A libnbd handle or other native address. */
export type Address = bigint;

/** Receives the extents of one meta context: pairs of 32-bit or 64-bit length and flags; the address is only good during the call. */
export type ExtentCallback = (
  ...reply: [userData: unknown, context: string, offset: number, entries: Address, count: number, error: unknown]
) => number;

interface Closure {
  readonly callback: Address | null;
  readonly user_data: null;
  readonly free: null;
}

export const noClosure: Closure = { callback: null, user_data: null, free: null };

export interface NbdLibrary {
  readonly has64BitStatus: boolean;
  create(): Address | null;
  close(handle: Address): void;
  get_error(): string | null;
  get_errno(): number;
  set_export_name(handle: Address, name: string): number;
  add_meta_context(handle: Address, name: string): number;
  set_pread_initialize(handle: Address, initialize: boolean): number;
  set_request_structured_replies(handle: Address, request: boolean): number;
  aio_connect_unix(handle: Address, path: string): number;
  aio_connect_uri(handle: Address, uri: string): number;
  aio_is_ready(handle: Address): number;
  aio_is_connecting(handle: Address): number;
  aio_is_dead(handle: Address): number;
  aio_is_closed(handle: Address): number;
  aio_get_fd(handle: Address): number;
  aio_get_direction(handle: Address): number;
  aio_disconnect(handle: Address, flags: number): number;
  get_size(handle: Address): number;
  get_block_size(handle: Address, kind: number): number;
  is_read_only(handle: Address): number;
  can_multi_conn(handle: Address): number;
  can_zero(handle: Address): number;
  can_fast_zero(handle: Address): number;
  can_trim(handle: Address): number;
  can_flush(handle: Address): number;
  can_meta_context(handle: Address, name: string): number;
  aio_pread(handle: Address, into: Uint8Array, count: number, offset: number, done: Closure, flags: number): number;
  aio_pwrite(handle: Address, from: Uint8Array, count: number, offset: number, done: Closure, flags: number): number;
  aio_zero(handle: Address, count: number, offset: number, done: Closure, flags: number): number;
  aio_trim(handle: Address, count: number, offset: number, done: Closure, flags: number): number;
  aio_flush(handle: Address, done: Closure, flags: number): number;
  aio_block_status(handle: Address, count: number, offset: number, extents: Closure, done: Closure): number;
  aio_command_completed(handle: Address, cookie: number): number;
  poll(handle: Address, timeoutMs: number): number;
  /** Blocks a pool thread until the read has ended; drives every other command of the handle meanwhile. */
  preadAsync(handle: Address, into: Uint8Array, count: number, offset: number): Promise<number>;
  /** As `preadAsync`, for a write. */
  pwriteAsync(handle: Address, from: Uint8Array, count: number, offset: number): Promise<number>;
  /** Waits on a pool thread until the descriptor is ready in `direction` (1 read, 2 write, 3 both) or the time is over; holds no lock of libnbd. */
  waitAsync(fd: number, direction: number, timeoutMs: number): Promise<number>;
  /** Ends both directions of a socket, waking whatever waits on it. */
  shutdown(fd: number): void;
  /** Makes a native function of `callback`; give it back by `unregister`. */
  registerExtents(callback: ExtentCallback): Address;
  unregister(callback: Address): void;
  /** A copy of the bytes at an address. */
  copy(address: Address, bytes: number): ArrayBuffer;
}

interface NativeFunction {
  (...args: unknown[]): unknown;
  async(...args: unknown[]): void;
}

let loaded: NbdLibrary | undefined;

/** libnbd, loaded at the first call; throws `library-missing` where this machine has none. */
export function nbdLibrary(): NbdLibrary {
  loaded ??= load();
  return loaded;
}

function open(): LibraryHandle {
  try {
    return koffi.load("libnbd.so.0");
  } catch (cause) {
    throw new NbdError("library-missing", "libnbd.so.0 is not on this machine", { cause, hint: "install libnbd (Debian: libnbd0)" });
  }
}

function promised(native: NativeFunction, args: readonly unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    native.async(...args, (error: Error | null | undefined, result: number) => {
      void args.length; // this closure keeps the buffers alive until the native call has ended
      if (error === null || error === undefined) resolve(result);
      else reject(error);
    });
  });
}

function exports(library: LibraryHandle, name: string): boolean {
  try {
    library.func(name, "int", ["void *"]);
    return true;
  } catch {
    return false;
  }
}

const handle = "void *";
const events = [0, 1, 4, 5]; // POLLIN 1, POLLOUT 4, by direction

/** struct pollfd { int fd; short events; short revents; } */
function pollFd(fd: number, direction: number): Int16Array {
  const entry = new Int16Array(4);
  new Int32Array(entry.buffer, 0, 1)[0] = fd;
  entry[2] = events[direction] ?? 5;
  return entry;
}

function load(): NbdLibrary {
  const library = open();
  const libc = koffi.load(null);
  const has64BitStatus = exports(library, "nbd_aio_block_status_64");
  const closure = koffi.struct({ callback: "void *", user_data: "void *", free: "void *" });
  const onExtents = koffi.pointer(koffi.proto("int", ["void *", "str", "uint64", "void *", "size_t", "void *"]));
  const bind = (name: string, result: string, parameters: TypeObject[] | unknown[]): NativeFunction =>
    library.func(`nbd_${name}`, result, parameters as TypeObject[]) as NativeFunction;
  const table: Record<string, unknown> = {};
  for (const [name, result, ...parameters] of signatures(closure))
    table[name as string] = bind(name as string, result as string, parameters);
  const status = bind(has64BitStatus ? "aio_block_status_64" : "aio_block_status", "int64", [
    handle,
    "uint64",
    "uint64",
    closure,
    closure,
    "uint32",
  ]);
  const pread = bind("pread", "int", [handle, "void *", "size_t", "uint64", "uint32"]);
  const pwrite = bind("pwrite", "int", [handle, "void *", "size_t", "uint64", "uint32"]);
  const poll = libc.func("poll", "int", ["void *", "ulong", "int"]) as NativeFunction;
  const shutdown = libc.func("shutdown", "int", ["int", "int"]) as NativeFunction;
  return {
    ...(table as unknown as NbdLibrary),
    has64BitStatus,
    aio_block_status: (...args) => status(...args, 0) as number,
    preadAsync: (...args) => promised(pread, [...args, 0]),
    pwriteAsync: (...args) => promised(pwrite, [...args, 0]),
    waitAsync: (fd, direction, timeoutMs) => promised(poll, [pollFd(fd, direction), 1, timeoutMs]),
    shutdown: (fd) => void shutdown(fd, 2),
    registerExtents: (callback) => koffi.register(callback, onExtents),
    unregister: (callback) => koffi.unregister(callback),
    copy: (address, bytes) => koffi.view(address, bytes).slice(0),
  };
}

function signatures(closure: TypeObject): (readonly unknown[])[] {
  return [
    ["create", handle],
    ["close", "void", handle],
    ["get_error", "str"],
    ["get_errno", "int"],
    ["set_export_name", "int", handle, "str"],
    ["add_meta_context", "int", handle, "str"],
    ["set_pread_initialize", "int", handle, "bool"],
    ["set_request_structured_replies", "int", handle, "bool"],
    ["aio_connect_unix", "int", handle, "str"],
    ["aio_connect_uri", "int", handle, "str"],
    ["aio_is_ready", "int", handle],
    ["aio_is_connecting", "int", handle],
    ["aio_is_dead", "int", handle],
    ["aio_is_closed", "int", handle],
    ["aio_get_fd", "int", handle],
    ["aio_get_direction", "uint", handle],
    ["aio_disconnect", "int", handle, "uint32"],
    ["get_size", "int64", handle],
    ["get_block_size", "int64", handle, "int"],
    ["is_read_only", "int", handle],
    ["can_multi_conn", "int", handle],
    ["can_zero", "int", handle],
    ["can_fast_zero", "int", handle],
    ["can_trim", "int", handle],
    ["can_flush", "int", handle],
    ["can_meta_context", "int", handle, "str"],
    ["aio_pread", "int64", handle, "void *", "size_t", "uint64", closure, "uint32"],
    ["aio_pwrite", "int64", handle, "void *", "size_t", "uint64", closure, "uint32"],
    ["aio_zero", "int64", handle, "uint64", "uint64", closure, "uint32"],
    ["aio_trim", "int64", handle, "uint64", "uint64", closure, "uint32"],
    ["aio_flush", "int64", handle, closure, "uint32"],
    ["aio_command_completed", "int", handle, "uint64"],
    ["poll", "int", handle, "int"],
  ];
}
